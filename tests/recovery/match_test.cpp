// SPDX-License-Identifier: BSL-1.0
// Which file is which segment: each row of the table in match_segments.hpp, on files made by hand.
#include <keel/recovery/match_segments.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/counting_fs.hpp"
#include "support/few_files.hpp"
#include "support/segment_image.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace match_test {

namespace {

using namespace keel;
using namespace keel::recovery;
using C = checksum::crc32c;
using fs_type = keel::test::counting<io::memory>;
using format::segment_state;
using recovery::detail::seen_file;
using recovery::detail::segment_matcher;

format::store_id const own_store{std::byte{1}};
format::store_id const other_store{std::byte{2}};

std::uint64_t salt_of(std::uint64_t id) { return format::salt_of({id}, 5); }

/// A folder as it was looked at.
struct folder {
    io::memory disk{};
    fs_type fs{disk};
    inventory stock{wal::layout{"db"}};
    std::vector<seen_file> files{};

    folder() {
        REQUIRE(disk.make_directory("db"));
        REQUIRE(disk.make_directory("db/log"));
        stock.exists = true;
        stock.store = own_store;
        stock.manifest.state.emplace();
    }
    void registered(std::uint64_t id) {
        stock.state.segments[{id}] = {.id = {id}, .salt = salt_of(id), .size = 4096, .place = {id}};
    }
    seen_file& file(std::string const& name) {
        seen_file f{.path = "db/log/" + name, .name = name, .bytes = 4096};
        REQUIRE(disk.replace(f.path, std::vector<std::byte>(4096)));
        files.push_back(std::move(f));
        return files.back();
    }
    seen_file& file(std::uint64_t id) { return file(wal::layout::segment_name({id})); }
    void look() { segment_matcher<C, fs_type>{fs, stock, files, {}}.run(); }

    [[nodiscard]] found_segment const* segment(std::uint64_t id) const {
        for (auto const* list : {&stock.segments, &stock.spare})
            for (auto const& s : *list)
                if (s.entry.id.value == id) return &s;
        return nullptr;
    }
    [[nodiscard]] leftover_file const* leftover(std::string const& name) const {
        for (auto const& l : stock.leftovers)
            if (l.path == "db/log/" + name) return &l;
        return nullptr;
    }
    [[nodiscard]] std::vector<damage> kinds() const {
        std::vector<damage> out;
        for (auto const& f : stock.findings) out.push_back(f.kind);
        return out;
    }
};
using found = std::vector<damage>;

void set_headers(seen_file& f, std::uint64_t id, segment_state state = segment_state::active, std::uint64_t first = 1,
                 format::store_id const& store = own_store, std::uint64_t place = 0) {
    for (auto& copy : f.copies) {
        copy.problem = format::header_problem::none;
        copy.verifies = true;
        auto& h = copy.header;
        h.store = store;
        h.id = {id};
        h.salt = salt_of(id);
        h.size = 4096;
        h.first = {state == segment_state::prepared ? 0 : first};
        h.place = {place != 0 ? place : id};
        h.state = state;
    }
}
/// A mark of this life in a file whose headers are gone.
void put_mark(folder& in, seen_file const& f, std::uint64_t id, std::uint64_t at = 512) {
    auto bytes = *in.disk.contents(f.path);
    auto const mark = format::encode(format::mark{.at = {9}, .segment = {id}, .first = {7}, .salt = salt_of(id)});
    auto* const frame = bytes.data() + at;
    std::ranges::copy(mark, frame + format::frame_header_bytes);
    format::finish_frame<C>(frame, {salt_of(id), at},
                            {.payload_bytes = format::mark_bytes, .type = format::frame_type::mark});
    REQUIRE(in.disk.replace(f.path, bytes));
}

} // namespace

TEST_CASE("match: a file is the segment whose header it has, under its own name or another's") {
    folder f;
    f.registered(3);
    f.registered(4);
    set_headers(f.file(3), 3);
    set_headers(f.file("somewhere.seg"), 4);
    f.look();
    REQUIRE(f.segment(3) != nullptr);
    CHECK(f.segment(3)->path == "db/log/0000000000000003.seg");
    REQUIRE(f.segment(4) != nullptr);
    CHECK(f.segment(4)->present);
    CHECK(f.segment(4)->path == "db/log/somewhere.seg");
    CHECK(f.kinds() == found{damage::wrong_place});
    CHECK(f.stock.leftovers.empty());
}

TEST_CASE("match: a file without headers that cannot be opened now is no missing segment, but an error that passes") {
    folder f;
    f.registered(3);
    put_mark(f, f.file("somewhere.seg"), 3);
    keel::test::few_files<io::memory> fs{f.disk};
    fs.allow(0);
    {
        folder again = f;
        segment_matcher<C, keel::test::few_files<io::memory>> refused{fs, again.stock, again.files, {}};
        refused.run();
        REQUIRE(refused.refused());
        CHECK(refused.refused()->code == errc::no_descriptor);
    }
    fs.allow(1);
    segment_matcher<C, keel::test::few_files<io::memory>> matcher{fs, f.stock, f.files, {}};
    matcher.run();
    CHECK_FALSE(matcher.refused());
    REQUIRE(f.segment(3) != nullptr);
    CHECK(f.segment(3)->present);
}

TEST_CASE("match: two files that changed places are each found by what they hold") {
    folder f;
    f.registered(3);
    f.registered(4);
    set_headers(f.file(3), 4);
    set_headers(f.file(4), 3);
    f.look();
    CHECK(f.segment(3)->path == "db/log/0000000000000004.seg");
    CHECK(f.segment(4)->path == "db/log/0000000000000003.seg");
    CHECK(f.kinds() == found{damage::wrong_place, damage::wrong_place});
}

TEST_CASE(
    "match: of two files with one header the one that has its name counts, and the other is left alone and told") {
    folder f;
    f.registered(3);
    set_headers(f.file("copy.seg"), 3);
    set_headers(f.file(3), 3);
    f.look();
    CHECK(f.segment(3)->path == "db/log/0000000000000003.seg");
    CHECK(f.kinds() == found{damage::wrong_place});
    REQUIRE(f.leftover("copy.seg") != nullptr);
    CHECK_FALSE(f.leftover("copy.seg")->is_ours);
}

TEST_CASE("match: a file without headers is the segment that it is named after, if no other has that one's header") {
    for (bool const elsewhere : {false, true}) {
        folder f;
        f.registered(3);
        f.file(3);
        if (elsewhere) set_headers(f.file("moved.seg"), 3);
        f.look();
        REQUIRE(f.segment(3)->present);
        CHECK(f.segment(3)->path == (elsewhere ? "db/log/moved.seg" : "db/log/0000000000000003.seg"));
        CHECK(f.kinds() == found{elsewhere ? damage::wrong_place : damage::headers_lost});
    }
}

TEST_CASE("match: a file without headers under another name is known by a mark in it") {
    folder f;
    f.registered(3);
    f.registered(5);
    put_mark(f, f.file("a.seg"), 5);
    put_mark(f, f.file("b.seg"), 3, 1024);
    f.look();
    CHECK(f.segment(3)->path == "db/log/b.seg");
    CHECK(f.segment(3)->geometry.first == lsn{7});
    CHECK(f.segment(5)->path == "db/log/a.seg");
}

TEST_CASE("match: the file under a segment's name may be another segment, and then that one is missing") {
    folder f;
    f.registered(3);
    set_headers(f.file(3), 9);
    f.look();
    CHECK_FALSE(f.segment(3)->present);
    CHECK(f.kinds() == found{damage::wrong_place, damage::missing_segment, damage::unknown_segment});
    CHECK(f.segment(9)->present);
    CHECK_FALSE(f.segment(9)->registered);
    CHECK(f.stock.state.next_segment == 10); // no new segment takes either name
}

TEST_CASE("match: a life that was given up is not the one that is registered under the same id") {
    folder f;
    f.registered(3);
    auto& file = f.file(3);
    set_headers(file, 3);
    for (auto& copy : file.copies) copy.header.salt ^= std::uint64_t{1} << 40;
    f.look();
    CHECK_FALSE(f.segment(3)->present);
}

TEST_CASE(
    "match: what is prepared and not registered, temporary, or built by a repair is ours and no part of the store") {
    folder f;
    f.registered(3);
    f.registered(8);
    set_headers(f.file(3), 3);
    set_headers(f.file(8), 8, segment_state::prepared);
    set_headers(f.file(20), 20, segment_state::prepared);
    set_headers(f.file("old-name.seg"), 21, segment_state::prepared);
    set_headers(f.file(22), 22, segment_state::rebuilt, 1, own_store, 3);
    set_headers(f.file(23), 23, segment_state::rebuilt, 1, own_store, 17); // of one that is not there any more
    f.file("prepare.tmp");
    f.file("prepare.2.tmp");
    f.file("notes-of-somebody.txt");
    f.file(40); // without headers: it may be damage's only trace
    f.look();
    CHECK(f.kinds().empty());
    CHECK(f.stock.spare.size() == 1);
    for (auto const* name :
         {"0000000000000014.seg", "old-name.seg", "0000000000000016.seg", "prepare.tmp", "prepare.2.tmp"}) {
        CAPTURE(name);
        REQUIRE(f.leftover(name) != nullptr);
        CHECK(f.leftover(name)->is_ours);
    }
    for (auto const* name : {"0000000000000017.seg", "notes-of-somebody.txt", "0000000000000028.seg"}) {
        CAPTURE(name);
        REQUIRE(f.leftover(name) != nullptr);
        CHECK_FALSE(f.leftover(name)->is_ours);
    }
    CHECK(f.stock.state.next_segment == 41);
}

TEST_CASE("match: while the manifest may lack edits nothing is ours to remove") {
    folder f;
    f.stock.manifest.marked = 5;
    set_headers(f.file(20), 20, segment_state::prepared);
    f.file("prepare.tmp");
    f.look();
    for (auto const& l : f.stock.leftovers) CHECK_FALSE(l.is_ours);
}

TEST_CASE("match: what lies below the floor was given up, and what a repair took out of service is evidence") {
    folder f;
    f.stock.state.log_start_lsn = {50};
    f.stock.state.removed = {{{6}, 1}};
    set_headers(f.file(5), 5, segment_state::active, 40);
    set_headers(f.file(6), 6, segment_state::active, 60);
    set_headers(f.file(7), 7, segment_state::active, 60);
    f.look();
    REQUIRE(f.leftover("0000000000000005.seg")->retired);
    CHECK(f.leftover("0000000000000005.seg")->retired->salt == salt_of(5));
    CHECK(f.leftover("0000000000000006.seg")->removed == segment_id{6});
    CHECK(f.kinds() == found{damage::unknown_segment});
    CHECK(f.segment(7)->present);
}

TEST_CASE("match: a segment of another store is left alone and told") {
    folder f;
    f.registered(3);
    set_headers(f.file(3), 3, segment_state::active, 1, other_store);
    f.look();
    CHECK_FALSE(f.segment(3)->present);
    CHECK(std::ranges::count(f.kinds(), damage::wrong_place) == 2);
}

TEST_CASE("match: without a manifest every segment is taken back from its header, or from a mark") {
    folder f;
    f.stock.manifest.state.reset();
    set_headers(f.file(3), 3);
    put_mark(f, f.file("lost.seg"), 4);
    f.file("nothing.seg");
    f.look();
    CHECK(f.segment(3)->present);
    REQUIRE(f.segment(4) != nullptr);
    CHECK(f.segment(4)->geometry.first == lsn{7});
    CHECK(f.leftover("nothing.seg") != nullptr);
    CHECK(f.stock.state.next_segment == 5);
}

TEST_CASE("match: where a segment that counts stands under the name that new ones are made under, they get another") {
    folder f;
    f.registered(3);
    set_headers(f.file("prepare.tmp"), 3);
    f.look();
    CHECK(f.segment(3)->path == "db/log/prepare.tmp");
    CHECK(f.stock.paths.segment_temporary() != "db/log/prepare.tmp");
}

TEST_CASE("match: each file without headers is read once, however many segments look for theirs") {
    constexpr std::uint64_t count = 60;
    folder f;
    for (std::uint64_t id = 1; id <= count; ++id) f.registered(id);
    for (std::uint64_t id = 1; id <= count; ++id) put_mark(f, f.file("x" + std::to_string(id)), id);
    f.fs.forget();
    f.look();
    for (std::uint64_t id = 1; id <= count; ++id) {
        REQUIRE(f.segment(id)->present);
        CHECK(f.segment(id)->path == "db/log/x" + std::to_string(id));
        CHECK(f.fs.bytes_read("db/log/x" + std::to_string(id)) <= 4096);
    }
}

} // namespace match_test
