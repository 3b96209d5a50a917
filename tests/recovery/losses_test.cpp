// SPDX-License-Identifier: BSL-1.0
// Losses stay visible until somebody accepts them; and where nobody knows how much is lost, that is what is said.
#include <keel/recovery/loss_ledger.hpp>

#include <keel/io/fault.hpp>
#include <keel/log.hpp>

#include "support/damage_judge.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace losses_test {

namespace {

using namespace keel;
using namespace keel::test;
using C = checksum::crc32c;
using small_log = basic_log<small_engine::config_type>;
using faulty_log = basic_log<config<io::faulty<io::memory>, segment_size<4 * KiB>>>;
using recovery::loss_ledger;

std::string const ledger_path = "db/quarantine/losses";

open_options with(repair_strategy how, verify_depth depth = verify_depth::quick) {
    auto options = quiet_options(how);
    options.verify = depth;
    options.max_recovery_attempts = 0;
    return options;
}
constexpr auto skip = repair_strategy::skip_corrupted;
constexpr auto refuse = repair_strategy::refuse;

std::string text_of(std::uint64_t i) { return "record " + std::to_string(i) + '/' + std::string(300, 'l'); }

/// So many records, three or four segments, whose process was killed; the newest segment is open.
io::memory some_log(std::uint64_t records, bool close = false) {
    determined::restart();
    io::memory disk;
    auto log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    for (std::uint64_t i = 1; i <= records; ++i) REQUIRE(log->append(text_of(i)));
    if (close) REQUIRE(log->close());
    else log->abandon();
    return disk.after_process_crash();
}
void damage_record(io::memory& disk, std::uint64_t i) {
    for (auto const& path : disk.files()) {
        if (!path.starts_with("db/log/")) continue;
        auto const bytes = *disk.contents(path);
        auto const at = as_text(bytes).find(text_of(i));
        if (at != std::string_view::npos) REQUIRE(disk.corrupt(path, at + 50, std::byte{1}));
    }
}
/// The newest segment with records, as an undamaged log has it.
std::string newest_segment(io::memory disk) {
    std::string newest;
    for (auto const& file : map_files(disk))
        if (file.segment && !file.lsns.empty()) newest = std::max(newest, file.path);
    return newest;
}
std::uint64_t first_lsn_of(io::memory disk, std::string const& segment) {
    for (auto const& file : map_files(disk))
        if (file.path == segment) return file.lsns.first.value;
    return 0;
}
bool has(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

} // namespace

// ---- the ledger ---------------------------------------------------------------------------------------------------------------

TEST_CASE("P1: a ledger is read as it was written") {
    format::store_id const store{std::byte{7}};
    CHECK(rc::check("any losses", [&] {
        loss_ledger wanted;
        wal::lsn_set set;
        for (auto n = *rc::gen::inRange(0, 30); n > 0; --n) {
            auto const first = *rc::gen::inRange<std::uint64_t>(1, 1000);
            set.add({{first}, {first + *rc::gen::inRange<std::uint64_t>(0, 9)}});
        }
        wanted.accepted = set.ranges();
        for (auto n = *rc::gen::inRange<std::uint64_t>(0, 4); n > 0; --n)
            wanted.unknown.push_back({.segment = {n},
                                      .after = {n * 10},
                                      .why = *rc::gen::container<std::string>(rc::gen::arbitrary<char>())});
        auto const bytes = recovery::encode<C>(wanted, store);
        auto const again = recovery::decode_ledger<C>(bytes, store);
        RC_ASSERT(again.has_value());
        RC_ASSERT(*again == wanted);
        RC_ASSERT(!recovery::decode_ledger<C>(bytes, format::store_id{}));
    }));
}

TEST_CASE("P2 P17: a ledger with any bit turned over, or cut anywhere, is none") {
    format::store_id const store{std::byte{7}};
    loss_ledger const one{.accepted = {{{3}, {4}}, {{9}, {9}}},
                          .unknown = {{.segment = {5}, .after = {8}, .why = "x"}}};
    auto const bytes = recovery::encode<C>(one, store);
    REQUIRE(recovery::decode_ledger<C>(bytes, store) == one);
    for (std::size_t n = 0; n < bytes.size(); ++n)
        CHECK_FALSE(recovery::decode_ledger<C>(byte_view{bytes}.first(n), store));
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto wrong = bytes;
        wrong[bit / 8] ^= std::byte{1} << static_cast<int>(bit % 8);
        CHECK_FALSE(recovery::decode_ledger<C>(wrong, store));
    }
}

TEST_CASE("P17: what a ledger says of its own length is not believed beyond its bytes, nor ranges that overlap") {
    format::store_id const store{};
    CHECK_FALSE(recovery::decode_ledger<C>(recovery::encode<C>({.accepted = {{{5}, {9}}, {{7}, {8}}}}, store), store));
    CHECK_FALSE(recovery::decode_ledger<C>(recovery::encode<C>({.accepted = {{{9}, {5}}}}, store), store));
    loss_ledger many;
    for (std::uint64_t i = 1; i <= recovery::ledger_unknown_max + 5; ++i)
        many.unknown.push_back({.segment = {i}, .why = std::string(2000, 'w')});
    auto const cut = recovery::decode_ledger<C>(recovery::encode<C>(many, store), store);
    REQUIRE(cut);
    CHECK(cut->unknown.size() == recovery::ledger_unknown_max);
    CHECK(cut->unknown[0].why.size() == recovery::ledger_text_max);
}

// ---- declared losses ----------------------------------------------------------------------------------------------------------

TEST_CASE("R5.11: a declared loss is shown at every open until it is accepted, and no longer") {
    auto disk = some_log(30, true);
    damage_record(disk, 5);
    auto log = small_log::open(store_folder, with(skip, verify_depth::deep), disk);
    REQUIRE(log);
    CHECK(log->recovery().lost_records == 1);
    CHECK(log->recovery().declared_lost_lsn_ranges == std::vector<lsn_range>{{{5}, {5}}});
    log->abandon();
    for (int i = 0; i < 3; ++i) {
        log = small_log::open(store_folder, with(i == 2 ? refuse : skip), disk);
        REQUIRE(log);
        auto const& r = log->recovery();
        CHECK(r.lost_records == 0);
        CHECK(r.findings.empty());
        CHECK(r.declared_lost_records == 1);
        CHECK(r.declared_lost_lsn_ranges == std::vector<lsn_range>{{{5}, {5}}});
        CHECK(r.accepted_lost_lsn_ranges.empty());
        CHECK(r.damaged());
        CHECK(log->state() == engine_state::degraded);
        CHECK(has(log->state_reason(), "declared lost"));
        CHECK(has(log->state_reason(), "LSN 5"));
        REQUIRE(log->append("more")); // it does not go with writes
        REQUIRE(log->close());
    }
    log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    REQUIRE(log->accept_loss());
    CHECK(log->state() == engine_state::healthy);
    CHECK(log->state_reason().empty());
    CHECK(log->recovery().declared_lost_records == 1); // what this open found
    REQUIRE(log->accept_loss());
    log->abandon();
    disk = disk.after_power_loss({io::keep::oldest});
    log = small_log::open(store_folder, with(refuse), disk);
    REQUIRE(log);
    CHECK(log->state() == engine_state::healthy);
    CHECK_FALSE(log->recovery().damaged());
    CHECK(log->recovery().declared_lost_records == 0);
    CHECK(log->recovery().accepted_lost_lsn_ranges == std::vector<lsn_range>{{{5}, {5}}});
    log->abandon();

    // Another loss is another story.
    damage_record(disk, 9);
    log = small_log::open(store_folder, with(skip, verify_depth::deep), disk);
    REQUIRE(log);
    CHECK(log->recovery().declared_lost_lsn_ranges == std::vector<lsn_range>{{{9}, {9}}});
    CHECK(log->state() == engine_state::degraded);
    REQUIRE(log->accept_loss()); // in the open that found it
    CHECK(log->state() == engine_state::healthy);
    log->abandon();
    log = small_log::open(store_folder, with(skip), disk);
    CHECK(log->state() == engine_state::healthy);
    CHECK(log->recovery().accepted_lost_lsn_ranges == std::vector<lsn_range>{{{5}, {5}}, {{9}, {9}}});
    log->abandon();

    // Where the ledger is gone or does not verify, nothing was accepted.
    for (bool const gone : {true, false}) {
        auto hurt = clone(disk);
        if (gone) REQUIRE(hurt.remove(ledger_path));
        else REQUIRE(hurt.corrupt(ledger_path, 520, std::byte{1}));
        log = small_log::open(store_folder, with(skip), hurt);
        REQUIRE(log);
        CHECK(log->recovery().declared_lost_records == 2);
        CHECK(log->state() == engine_state::degraded);
        REQUIRE(log->accept_loss());
        CHECK(log->state() == engine_state::healthy);
    }
}

TEST_CASE("R5.11: accepting a loss leaves other damage to be told, and what refuses to write refuses to accept") {
    auto disk = some_log(30, true);
    damage_record(disk, 5);
    flip_bit(disk, "db/log/0000000000000002.seg", 8 * 8); // a header; the other one serves
    auto log = small_log::open(store_folder, with(skip, verify_depth::deep), disk);
    REQUIRE(log);
    CHECK(has(log->state_reason(), "lost"));
    REQUIRE(log->accept_loss());
    CHECK(log->state() == engine_state::degraded);
    CHECK(has(log->state_reason(), "cost no record"));
    REQUIRE(log->close());
    CHECK(log->accept_loss().error().code == errc::closed);
    auto options = with(skip);
    options.read_only = true;
    log = small_log::open(store_folder, options, disk);
    REQUIRE(log);
    CHECK(log->accept_loss().error().code == errc::read_only);
}

TEST_CASE("R5.11: an acceptance that fails at any operation is none, and can be made again") {
    auto made = some_log(20, true);
    damage_record(made, 5);
    {
        auto log = small_log::open(store_folder, with(skip, verify_depth::deep), made);
        REQUIRE(log);
        log->abandon();
    }
    std::uint64_t failed = 0;
    for (std::uint64_t at = 1; at < 40; ++at) {
        CAPTURE(at);
        io::memory disk = clone(made);
        io::faulty<io::memory> fs{disk};
        auto log = faulty_log::open(store_folder, with(skip), fs);
        REQUIRE(log);
        fs.set_plan({{{.kind = io::fault_kind::no_space, .at = at, .count = io::forever}}});
        auto const done = log->accept_loss();
        bool const hit = !fs.log().empty();
        fs.set_plan({});
        if (!hit) break;
        CHECK((log->state() == engine_state::healthy) == done.has_value());
        failed += !done;
        REQUIRE(log->accept_loss());
        CHECK(log->state() == engine_state::healthy);
        log->abandon();
        log = faulty_log::open(store_folder, with(skip), fs);
        REQUIRE(log);
        CHECK(log->state() == engine_state::healthy);
    }
    CHECK(failed > 2);
}

TEST_CASE("R5.11: an engine says the same of what it lost, and goes on saying it behind merges") {
    auto store = make_store(ending::closed, 60, 2);
    flip_bit(store.disk, "db/log/0000000000000001.seg", 700 * 8);
    auto db = small_engine::open(store_folder, with(skip, verify_depth::deep), store.disk);
    REQUIRE(db);
    auto const lost = db->recovery().declared_lost_lsn_ranges;
    REQUIRE_FALSE(lost.empty());
    REQUIRE(db->put("more", "1"));
    REQUIRE(db->compact());
    REQUIRE(db->close());
    db = small_engine::open(store_folder, with(skip), store.disk);
    REQUIRE(db);
    CHECK(db->recovery().declared_lost_lsn_ranges == lost);
    CHECK(db->state() == engine_state::degraded);
    REQUIRE(db->accept_loss());
    CHECK(db->state() == engine_state::healthy);
    REQUIRE(db->close());
    db = small_engine::open(store_folder, with(refuse), store.disk);
    REQUIRE(db);
    CHECK(db->state() == engine_state::healthy);
    CHECK(db->recovery().accepted_lost_lsn_ranges == lost);
}

// ---- unknown extents ----------------------------------------------------------------------------------------------------------

TEST_CASE(
    "unknown: with the newest segment and the notes gone nobody says that nothing is lost, until that is accepted") {
    auto const whole = some_log(30);
    auto const gone = newest_segment(whole);
    auto const first = first_lsn_of(whole, gone);
    REQUIRE(first > 1);
    for (bool const by_power : {false, true}) {
        CAPTURE(by_power);
        auto disk = by_power ? whole.after_power_loss({io::keep::newest, 3}) : clone(whole);
        REQUIRE(disk.remove(gone));
        REQUIRE(disk.sync_directory("db/log"));
        if (!by_power || disk.status("db/notes")) static_cast<void>(disk.remove("db/notes"));

        auto const before = clone(disk);
        auto const refused = small_log::open(store_folder, with(refuse), disk);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::corruption);
        CHECK(has(refused.error().message, "not known"));
        CHECK(disk.equal(before, [](std::string_view path) { return path != "db/notes" && path != "db/lock"; }));

        for (int i = 0; i < 3; ++i) { // the same at every open, also once the log has gone on
            CAPTURE(i);
            auto log = small_log::open(store_folder, with(i == 1 ? refuse : skip), disk);
            REQUIRE(log);
            auto const& r = log->recovery();
            REQUIRE(r.unknown_extents.size() == 1);
            CHECK(r.unknown_extents[0].file == gone.substr(3));
            CHECK(r.unknown_extents[0].after.value == first - 1);
            CHECK(r.damaged());
            CHECK(log->state() == engine_state::degraded);
            CHECK(has(log->state_reason(), "not known"));
            CHECK_FALSE(has(log->state_reason(), "cost no record"));
            CHECK(log->last_lsn().value == first - 1 + static_cast<std::uint64_t>(i));
            REQUIRE(log->append("written behind it"));
            REQUIRE(log->close());
            if (by_power) disk = disk.after_power_loss({io::keep::oldest});
        }
        auto log = small_log::open(store_folder, with(skip), disk);
        REQUIRE(log);
        REQUIRE(log->accept_loss());
        CHECK(log->state() == engine_state::healthy);
        log->abandon();
        disk = disk.after_power_loss({io::keep::oldest});
        log = small_log::open(store_folder, with(refuse, verify_depth::deep), disk);
        REQUIRE(log);
        CHECK(log->state() == engine_state::healthy);
        CHECK(log->recovery().findings.empty());
        CHECK(log->last_lsn().value == first + 2);
    }
}

TEST_CASE("unknown: notes of this boot make of it a loss that is known to the record") {
    auto disk = some_log(30);
    auto const gone = newest_segment(disk);
    auto const first = first_lsn_of(disk, gone);
    REQUIRE(disk.remove(gone));
    auto const log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    CHECK(log->recovery().unknown_extents.empty());
    CHECK(log->recovery().lost_lsn_ranges == std::vector<lsn_range>{{{first}, {30}}});
}

TEST_CASE("unknown: a newest segment that is cut short, has no headers or is not read to its end is no torn tail") {
    auto const whole = some_log(30).after_power_loss({io::keep::newest, 1});
    auto const newest = newest_segment(whole);
    auto const size = whole.contents(newest)->size();
    for (int kind = 0; kind < 3; ++kind) {
        CAPTURE(kind);
        auto disk = clone(whole);
        static_cast<void>(disk.remove("db/notes"));
        if (kind == 0) REQUIRE(disk.cut(newest, 1400));
        if (kind == 1) {
            zero(disk, newest, 0, format::header_bytes);
            zero(disk, newest, size - format::header_bytes, format::header_bytes);
        }
        if (kind == 2) REQUIRE(disk.fail_reads(newest, 2560, 512));
        for (int i = 0; i < 3; ++i) {
            CAPTURE(i);
            CHECK((small_log::open(store_folder, with(refuse), clone(disk)).has_value()) == (i != 0));
            auto log = small_log::open(store_folder, with(skip), disk);
            REQUIRE(log);
            REQUIRE(log->recovery().unknown_extents.size() == 1);
            CHECK(log->recovery().unknown_extents[0].file == newest.substr(3));
            CHECK(log->state() == engine_state::degraded);
            CHECK(has(log->state_reason(), "not known"));
            REQUIRE(log->append("more"));
            REQUIRE(log->close());
        }
        auto log = small_log::open(store_folder, with(skip), disk);
        REQUIRE(log->accept_loss());
        REQUIRE(log->close());
        log = small_log::open(store_folder, with(skip), disk);
        REQUIRE(log);
        CHECK(log->recovery().unknown_extents.empty());
        CHECK_FALSE(has(log->state_reason(), "not known"));
    }
}

TEST_CASE("unknown: both manifests gone with the notes, and nobody knows which segments there were") {
    auto disk = some_log(30);
    for (auto const* path : {"db/manifest.0", "db/manifest.1", "db/notes"}) REQUIRE(disk.remove(path));
    CHECK_FALSE(small_log::open(store_folder, with(refuse), clone(disk)));
    auto log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    CHECK(log->recovery().records == 30);
    REQUIRE(log->recovery().unknown_extents.size() == 1);
    CHECK_FALSE(log->recovery().unknown_extents[0].segment);
    REQUIRE(log->close());
    log = small_log::open(store_folder, with(refuse), disk); // once it was decided to go on
    REQUIRE(log);
    CHECK(log->recovery().unknown_extents.size() == 1);
    CHECK(log->state() == engine_state::degraded);
    REQUIRE(log->accept_loss());
    CHECK(log->state() == engine_state::healthy);
}

TEST_CASE("unknown: a spare segment that is gone costs nothing where notes of this boot say that it was never used") {
    determined::restart();
    io::memory disk;
    auto log = small_log::open(store_folder, with(skip), disk);
    for (std::uint64_t i = 1; i <= 20; ++i) REQUIRE(log->append(text_of(i)));
    log->housekeep(true); // prepares one
    log->abandon();
    disk = disk.after_process_crash();
    std::string spare;
    for (auto const& path : disk.files())
        if (path.ends_with(".seg")) spare = std::max(spare, path);
    REQUIRE(spare != newest_segment(disk));
    REQUIRE(disk.remove(spare));
    REQUIRE(disk.sync_directory("db/log"));
    log = small_log::open(store_folder, with(refuse), disk);
    REQUIRE(log);
    CHECK(log->recovery().unknown_extents.empty());
    CHECK(has(log->state_reason(), "cost no record"));
    REQUIRE(log->append("more")); // which takes it off the manifest
    log->abandon();
    // Also behind a power loss, when notes say nothing any more.
    disk = disk.after_power_loss({io::keep::oldest});
    log = small_log::open(store_folder, with(refuse), disk);
    REQUIRE(log);
    CHECK(log->recovery().findings.empty());
    CHECK(log->state() == engine_state::healthy);
}

TEST_CASE("unknown: a file that comes back when the log has gone on behind it brings nothing back") {
    auto disk = some_log(30);
    auto const gone = newest_segment(disk);
    auto const first = first_lsn_of(disk, gone);
    auto const bytes = *disk.contents(gone);
    REQUIRE(disk.remove(gone));
    REQUIRE(disk.remove("db/notes"));
    auto log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    REQUIRE(log->append("taken anew"));
    log->abandon();
    REQUIRE(disk.replace(gone, bytes));
    log = small_log::open(store_folder, with(skip, verify_depth::deep), disk);
    REQUIRE(log);
    CHECK(log->last_lsn().value == first);
    auto reader = log->read_from({first});
    auto const record = reader.next();
    REQUIRE(record);
    REQUIRE(*record);
    CHECK(as_text((*record)->value) == "taken anew");
}

TEST_CASE("unknown: what cannot be noted is not written behind") {
    auto made = some_log(30);
    REQUIRE(made.remove(newest_segment(made)));
    REQUIRE(made.remove("db/notes"));
    io::faulty<io::memory> fs{clone(made)};
    fs.set_plan({{{.kind = io::fault_kind::no_space, .on = io::fault_class::write, .at = 1, .count = io::forever}}});
    auto log = faulty_log::open(store_folder, with(skip), fs);
    REQUIRE(log);
    REQUIRE_FALSE(fs.log().empty());
    CHECK(log->state() == engine_state::read_only);
    CHECK_FALSE(log->append("more"));
    CHECK(log->recovery().unknown_extents.size() == 1);
    log->abandon();
    fs.set_plan({});
    log = faulty_log::open(store_folder, with(skip), fs);
    REQUIRE(log);
    CHECK(log->state() == engine_state::degraded);
    CHECK(log->append("more"));
}

// ---- the machine's trouble is not damage --------------------------------------------------------------------------------------

TEST_CASE(
    "a manifest, a ledger or notes that the machine does not open are its trouble, and nothing is made up for them") {
    auto made = some_log(30);
    {
        auto log = small_log::open(store_folder, with(skip), made);
        REQUIRE(log->append("more"));
        REQUIRE(log->accept_loss()); // so that there is a ledger
        log->abandon();
    }
    auto const before = clone(made);
    std::uint64_t refused = 0;
    // Each opening of a file fails in turn, alone and with all behind it: no descriptor is left.
    for (std::uint64_t const count : {std::uint64_t{1}, io::forever})
        for (std::uint64_t at = 1; at < 60; ++at) {
            CAPTURE(at);
            io::faulty<io::memory> fs{clone(made)};
            fs.set_plan({{{.kind = io::fault_kind::fail, .on = io::fault_class::open, .at = at, .count = count}}});
            auto log = faulty_log::open(store_folder, with(skip), fs);
            bool const hit = !fs.log().empty();
            fs.set_plan({});
            if (!log) {
                ++refused;
                CHECK(log.error().code == errc::io_error);
            } else {
                CHECK(log->recovery().lost_records == 0);
                CHECK(log->recovery().unknown_extents.empty());
                CHECK(log->last_lsn().value == 31);
                for (auto const& f : log->recovery().findings) CHECK(f.kind != damage::manifest_lost);
                log->abandon();
            }
            log = faulty_log::open(store_folder, with(refuse), fs);
            REQUIRE(log);
            CHECK(log->last_lsn().value == 31);
            CHECK(log->state() == engine_state::healthy);
            if (!hit) break;
        }
    CHECK(refused > 5);
}

TEST_CASE("leftovers of a segment that was half made are removed by the first write") {
    auto disk = some_log(10);
    auto const rubbish = std::vector<std::byte>(4096);
    auto const seen = recovery::take_inventory<small_engine::config_type>(disk, store_folder);
    REQUIRE(seen);
    auto const prepared = [&](std::uint64_t id) {
        format::segment_header h{.checksum = checksum_id{C::id}, .store = seen->store, .id = {id}};
        h.salt = format::salt_of(h.id, 9);
        h.size = 4096;
        h.place = h.id;
        std::vector<std::byte> bytes(4096);
        auto const block = format::encode<C>(h);
        std::ranges::copy(block, bytes.begin());
        std::ranges::copy(block, bytes.end() - static_cast<std::ptrdiff_t>(block.size()));
        return bytes;
    };
    auto const next = seen->state.next_segment;
    REQUIRE(disk.replace("db/log/prepare.tmp", rubbish));
    REQUIRE(disk.replace("db/log/prepare.3.tmp", prepared(next + 3)));
    REQUIRE(disk.replace("db/log/" + wal::layout::segment_name({next}), prepared(next))); // renamed, not registered
    REQUIRE(disk.replace("db/log/somebody.else", rubbish));
    auto const files = disk.files().size();
    auto log = small_log::open(store_folder, with(skip), disk);
    REQUIRE(log);
    CHECK(log->recovery().findings.empty());
    CHECK(disk.files().size() == files); // nothing is removed by looking
    REQUIRE(log->append("more"));
    log->abandon();
    std::vector<std::string> left;
    for (auto const& path : disk.files())
        if (path.starts_with("db/log/") && !path.ends_with(".seg")) left.push_back(path);
    CHECK(left == std::vector<std::string>{"db/log/somebody.else"});
    log = small_log::open(store_folder, with(refuse, verify_depth::deep), disk);
    REQUIRE(log);
    CHECK(log->last_lsn().value == 11);
    CHECK(log->recovery().findings.empty());
}

} // namespace losses_test
