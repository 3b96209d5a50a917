// SPDX-License-Identifier: BSL-1.0
#include <keel/io/memory.hpp>

#include <conformance/file_system.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace keel;
using conformance::code_of, conformance::need;
using io::access, io::creation, io::keep, io::memory, io::operation_kind;

static_assert(io::file_system<memory>);

memory::file open_file(memory disk, std::string const& path) {
    return need(disk.open(path, access::read_write, creation::if_missing));
}

/// A file of a durable name and durable bytes.
memory::file durable_file(memory disk, std::string const& path, std::string_view text) {
    need(disk.replace(path, as_bytes(text)));
    return open_file(disk, path);
}

/// The bytes of a file, or nothing where it is missing.
std::optional<std::string> text_of(memory const& disk, std::string const& path) {
    auto const bytes = disk.contents(path);
    if (!bytes) return {};
    return std::string{as_text(*bytes)};
}

std::string sectors(std::string_view letters) {
    std::string text;
    for (char const letter : letters) text += std::string(512, letter);
    return text;
}

/// What seen(disk) gives after many power losses.
template <class F>
auto after_losses(memory const& disk, F seen, std::uint64_t losses = 300) {
    std::set<decltype(seen(disk))> all;
    for (std::uint64_t seed = 0; seed < losses; ++seed) all.insert(seen(disk.after_power_loss({keep::random, seed})));
    return all;
}

auto contents_after_losses(memory const& disk, std::string const& path) {
    return after_losses(disk, [&](memory const& d) { return text_of(d, path); });
}

using states = std::set<std::optional<std::string>>;

} // namespace

TEST_CASE("memory: obeys the laws of a file system") {
    memory disk;
    need(disk.make_directory("/base"));
    conformance::file_system_laws(disk, "/base");
}

TEST_CASE("memory: paths are the same with and without a leading slash, and the root has several names") {
    memory disk;
    need(disk.make_directory("a"));
    open_file(disk, "/a/b");
    CHECK(need(disk.status("a//./b")).identity == need(disk.status("/a/b")).identity);
    CHECK(need(disk.status("a/../a/b")).identity == need(disk.status("a/b")).identity);
    for (auto const* const root : {"", ".", "/"}) CHECK(need(disk.list(root)).size() == 1);
    CHECK(disk.files() == std::vector<std::string>{"a/b"});
    CHECK(code_of(disk.remove("/")) == errc::invalid_argument);
    CHECK(code_of(disk.rename("a", "a/c")) == errc::invalid_argument);
}

// Bytes

TEST_CASE("memory: what was synced survives every power loss, what was not is there or not, sector by sector") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aa"));
    need(file.write(0, as_bytes(sectors("b"))));
    need(file.sync());
    CHECK(contents_after_losses(disk, "f") == states{sectors("ba")});
    need(file.write(0, as_bytes(sectors("cd"))));
    CHECK(contents_after_losses(disk, "f") == states{sectors("ba"), sectors("ca"), sectors("bd"), sectors("cd")});
}

TEST_CASE("memory: a version between the synced one and the newest can be what survives") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("a"));
    for (char const letter : {'b', 'c', 'd'}) need(file.write(0, as_bytes(std::string(512, letter))));
    CHECK(contents_after_losses(disk, "f") == states{sectors("a"), sectors("b"), sectors("c"), sectors("d")});
}

TEST_CASE("memory: stores and published words are versions like writes, and a mapping's sync makes them durable") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aa"));
    auto map = need(file.map(access::read_write));
    need(map.store(0, as_bytes("stored")));
    need(map.publish(512, 0x62626262));
    auto const both = contents_after_losses(disk, "f");
    CHECK(both.size() == 4);
    need(map.sync());
    CHECK(contents_after_losses(disk, "f") ==
          states{std::string{"stored"} + sectors("a").substr(6) + "bbbb" + sectors("a").substr(4)});
    need(map.store(0, as_bytes("again.")));
    need(file.sync());
    CHECK(contents_after_losses(disk, "f").size() == 1);
}

TEST_CASE("memory: a store within one sector can survive in part, a write of whole sectors only by sectors") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("a"));
    auto map = need(file.map(access::read_write));
    need(map.store(0, as_bytes("12345678"
                               "ABCDEFGH")));
    auto const rest = sectors("a").substr(16);
    CHECK(contents_after_losses(disk, "f") ==
          states{sectors("a"), "12345678aaaaaaaa" + rest, "12345678ABCDEFGH" + rest});
}

TEST_CASE("memory: oldest keeps what was synced, newest all there is") {
    memory disk;
    auto file = durable_file(disk, "f", "old");
    need(file.write(0, as_bytes("newer")));
    open_file(disk, "g");
    auto const oldest = disk.after_power_loss({keep::oldest}), newest = disk.after_power_loss({keep::newest});
    CHECK(text_of(oldest, "f") == "old");
    CHECK(oldest.files() == std::vector<std::string>{"f"});
    CHECK(text_of(newest, "f") == "newer");
    CHECK(newest.files() == std::vector<std::string>{"f", "g"});
}

TEST_CASE("memory: a size may be lost while its bytes are kept, and bytes while the size is kept; behind a lost size "
          "are zeros") {
    memory disk;
    auto file = durable_file(disk, "f", "");
    need(file.write(0, as_bytes("xyz")));
    CHECK(contents_after_losses(disk, "f") == states{"", "xyz", std::string(3, '\0')});
    int lost = 0;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        auto shorter = disk.after_power_loss({keep::random, seed});
        if (text_of(shorter, "f") != "") continue;
        need(open_file(shorter, "f").allocate(3));
        CHECK(text_of(shorter, "f") == std::string(3, '\0'));
        ++lost;
    }
    CHECK(lost > 10);
}

TEST_CASE("memory: an allocated size is lost with the power until it is synced") {
    memory disk;
    auto file = durable_file(disk, "f", "");
    need(file.allocate(700));
    CHECK(contents_after_losses(disk, "f") == states{"", std::string(700, '\0')});
    need(file.sync());
    CHECK(contents_after_losses(disk, "f") == states{std::string(700, '\0')});
}

TEST_CASE("memory: a disk after a power loss is wholly synced") {
    memory disk;
    need(open_file(disk, "f").write(0, as_bytes(sectors("abcdefgh"))));
    auto const lost = disk.after_power_loss({keep::newest});
    CHECK(contents_after_losses(lost, "f") == states{sectors("abcdefgh")});
}

TEST_CASE("memory: mostly old and mostly new states are both common among random ones") {
    memory disk;
    auto file = durable_file(disk, "f", std::string(64 * 512, 'a'));
    need(file.write(0, as_bytes(std::string(64 * 512, 'b'))));
    int mostly_old = 0, mostly_new = 0, between = 0;
    for (std::uint64_t seed = 0; seed < 1000; ++seed) {
        auto const text = text_of(disk.after_power_loss({keep::random, seed}), "f").value();
        auto const kept = std::count(text.begin(), text.end(), 'b') / 512;
        ++(kept <= 6 ? mostly_old : kept >= 58 ? mostly_new : between);
    }
    CHECK(mostly_old > 100);
    CHECK(mostly_new > 100);
    CHECK(between > 100);
}

TEST_CASE("memory: one file on the disk and the other not is common too") {
    memory disk;
    for (auto const* const path : {"f", "g"}) {
        auto file = durable_file(disk, path, std::string(64 * 512, 'a'));
        need(file.write(0, as_bytes(std::string(64 * 512, 'b'))));
    }
    int apart = 0;
    for (std::uint64_t seed = 0; seed < 1000; ++seed) {
        auto const lost = disk.after_power_loss({keep::random, seed});
        auto const kept = [&](std::string const& path) {
            auto const text = text_of(lost, path).value();
            return std::count(text.begin(), text.end(), 'b') / 512;
        };
        auto const f = kept("f"), g = kept("g");
        if (f > g + 48 || g > f + 48) ++apart;
    }
    CHECK(apart > 30);
}

TEST_CASE("memory: the same seed gives the same disk and the same next boot") {
    memory disk;
    for (int i = 0; i < 8; ++i) need(open_file(disk, std::to_string(i)).write(0, as_bytes(sectors("abcdefgh"))));
    std::set<bool> same_as_first;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        auto const one = disk.after_power_loss({keep::random, seed}), two = disk.after_power_loss({keep::random, seed});
        CHECK(one.equal(two));
        CHECK(one.boot() == two.boot());
        same_as_first.insert(one.equal(disk.after_power_loss({keep::random, 0})));
    }
    CHECK(same_as_first.contains(false));
}

TEST_CASE("memory: of very many versions of a sector, the synced and the newest one stay") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("a"));
    for (int i = 0; i < 1000; ++i) need(file.write(0, as_bytes("version " + std::to_string(i) + ";")));
    auto const left = after_losses(
        disk, [](memory const& d) { return text_of(d, "f").value().substr(0, 12); }, 5000);
    CHECK(left.size() <= 64);
    CHECK(left.size() > 50);
    CHECK(left.contains(std::string(12, 'a')));
    CHECK(left.contains("version 999;"));
}

TEST_CASE("memory: a disk told to remember nothing keeps all bytes") {
    memory disk;
    disk.set_versions_max(1);
    auto file = durable_file(disk, "f", "old");
    need(file.write(0, as_bytes("newer")));
    CHECK(contents_after_losses(disk, "f") == states{"newer"});
}

TEST_CASE("memory: any history of writes, stores and syncs leaves one of the versions of each sector and size") {
    struct model {
        std::string bytes = std::string(2048, 'a');
        std::array<std::set<std::string>, 4> versions;
        void changed(bool synced) {
            for (std::size_t s = 0; s < versions.size(); ++s) {
                if (synced) versions[s].clear();
                versions[s].insert(bytes.substr(s * 512, 512));
            }
        }
    };
    CHECK(rc::check(
        "each sector is one of its versions", [](std::vector<std::uint32_t> const& steps, std::uint64_t seed) {
            memory disk;
            model wanted;
            auto file = durable_file(disk, "f", wanted.bytes);
            auto map = need(file.map(access::read_write));
            wanted.changed(true);
            for (auto const step : steps) {
                auto const letter = static_cast<char>('b' + step / 64 % 20);
                auto const offset = std::size_t{(step >> 11) % 255U} * 8;
                auto const length = std::size_t{8}; // longer stores may be torn, which this model does not know
                if (step % 8 == 0) {
                    need(step % 16 == 0 ? file.sync() : map.sync());
                    wanted.changed(true);
                    continue;
                }
                auto const text = std::string(length, letter);
                need(step % 2 == 0 ? file.write(offset, as_bytes(text)) : map.store(offset, as_bytes(text)));
                wanted.bytes.replace(offset, length, text);
                wanted.changed(false);
            }
            auto const left = text_of(disk.after_power_loss({keep::random, seed}), "f").value();
            for (std::size_t s = 0; s < 4; ++s) RC_ASSERT(wanted.versions[s].contains(left.substr(s * 512, 512)));
            RC_ASSERT(left.size() == wanted.bytes.size());
            RC_ASSERT(text_of(disk.after_process_crash(), "f") == wanted.bytes);
        }));
}

// Names

TEST_CASE("memory: a synced file whose name was never synced can be lost; sync_directory keeps it") {
    memory disk;
    auto file = open_file(disk, "f");
    need(file.write(0, as_bytes("x")));
    need(file.sync());
    CHECK(contents_after_losses(disk, "f") == states{std::nullopt, "x"});
    need(disk.sync_directory("."));
    CHECK(contents_after_losses(disk, "f") == states{"x"});
}

TEST_CASE("memory: a rename is whole or not at all, and brings its file even where the creation was lost") {
    memory disk;
    durable_file(disk, "f", "old");
    auto fresh = open_file(disk, "f.new");
    need(fresh.write(0, as_bytes("new")));
    need(fresh.sync());
    need(disk.rename("f.new", "f"));
    auto const seen = after_losses(disk, [](memory const& d) {
        return std::pair{text_of(d, "f"), text_of(d, "f.new")};
    });
    using pair = std::pair<std::optional<std::string>, std::optional<std::string>>;
    CHECK(seen == std::set<pair>{{"old", std::nullopt}, {"old", "new"}, {"new", std::nullopt}});
    need(disk.sync_directory(""));
    CHECK(contents_after_losses(disk, "f") == states{"new"});
}

TEST_CASE("memory: a rename between folders is durable after either is synced, even if its creation is not") {
    for (auto const* const folder : {"a", "b"}) {
        memory disk;
        need(disk.make_directory("a"));
        need(disk.make_directory("b"));
        need(disk.sync_directory(""));
        open_file(disk, "a/f");
        need(disk.rename("a/f", "b/f"));
        need(disk.sync_directory(folder));
        auto const seen = after_losses(disk, [](memory const& d) { return d.files(); });
        CHECK(seen == std::set<std::vector<std::string>>{{"b/f"}});
    }
}

TEST_CASE("memory: a removed file can come back until its folder is synced") {
    memory disk;
    durable_file(disk, "f", "x");
    need(disk.remove("f"));
    CHECK(contents_after_losses(disk, "f") == states{std::nullopt, "x"});
    need(disk.sync_directory(""));
    CHECK(contents_after_losses(disk, "f") == states{std::nullopt});
}

TEST_CASE("memory: files in a folder go with the folder's unsynced name") {
    memory disk;
    need(disk.make_directory("d"));
    need(durable_file(disk, "d/f", "x").sync());
    need(disk.sync_directory("d"));
    CHECK(contents_after_losses(disk, "d/f") == states{std::nullopt, "x"});
    need(disk.sync_directory(""));
    CHECK(contents_after_losses(disk, "d/f") == states{"x"});
}

TEST_CASE("memory: unsynced names survive in any combination, applied in order, and in no other way") {
    struct change {
        int inode;
        std::string from, to;
        bool durable;
    };
    using names = std::map<std::string, int>;
    auto const apply = [](names& to, change const& one) {
        if (one.to.empty()) {
            if (auto const at = to.find(one.from); at != to.end() && at->second == one.inode) to.erase(at);
            return;
        }
        std::erase_if(to, [&](auto const& entry) { return entry.second == one.inode; });
        to[one.to] = one.inode;
    };
    auto const read_names = [](memory const& disk) {
        names found;
        for (auto const& path : disk.files()) found[path] = std::stoi(text_of(disk, path).value());
        return found;
    };
    CHECK(rc::check("a power loss leaves a subset of the unsynced changes",
                    [&](std::vector<std::uint8_t> const& steps, std::uint64_t seed) {
                        memory disk;
                        need(disk.make_directory("d"));
                        need(disk.sync_directory(""));
                        names now;
                        std::vector<change> changes;
                        std::size_t unsynced = 0;
                        int made = 0;
                        std::array<std::string, 4> const pool{"a", "b", "d/a", "d/b"};
                        for (auto const step : steps) {
                            auto const &x = pool[step / 4 % 4], &y = pool[step / 16 % 4];
                            auto const at = now.find(x);
                            if (step % 4 == 3 && step / 64 == 0) {
                                bool const in_d = step / 4 % 2 == 0;
                                need(disk.sync_directory(in_d ? "d" : ""));
                                for (auto& one : changes) {
                                    auto const here = [&](std::string const& path) {
                                        return !path.empty() && path.starts_with("d/") == in_d;
                                    };
                                    if (here(one.from) || here(one.to)) one.durable = true;
                                }
                                unsynced = static_cast<std::size_t>(
                                    std::count_if(changes.begin(), changes.end(), [](auto& c) { return !c.durable; }));
                                continue;
                            }
                            if (unsynced == 8) continue;
                            if (at == now.end()) {
                                auto file = open_file(disk, x);
                                need(file.write(0, as_bytes(std::to_string(++made))));
                                need(file.sync());
                                changes.push_back({made, "", x, false});
                            } else if (step % 4 == 0) {
                                need(disk.remove(x));
                                changes.push_back({at->second, x, "", false});
                            } else if (x != y) {
                                need(disk.rename(x, y));
                                changes.push_back({at->second, x, y, false});
                            } else {
                                continue;
                            }
                            ++unsynced;
                            apply(now, changes.back());
                        }
                        RC_ASSERT(read_names(disk) == now);
                        std::set<names> possible;
                        for (unsigned kept = 0; kept < 1U << unsynced; ++kept) {
                            names left;
                            unsigned bit = 0;
                            for (auto const& one : changes)
                                if (one.durable || (kept >> bit++ & 1U) != 0) apply(left, one);
                            possible.insert(left);
                        }
                        for (std::uint64_t i = 0; i < 10; ++i)
                            RC_ASSERT(possible.contains(read_names(disk.after_power_loss({keep::random, seed + i}))));
                    }));
}

// Crashes

TEST_CASE("memory: the crash of a process keeps all bytes, names, identities and the boot, and what is unsynced") {
    memory disk;
    auto file = durable_file(disk, "f", "old");
    need(file.write(0, as_bytes("new")));
    open_file(disk, "g");
    auto const clone = disk.after_process_crash();
    CHECK(clone.equal(disk));
    CHECK(clone.boot() == disk.boot());
    CHECK(need(clone.status("f")).identity == need(disk.status("f")).identity);
    CHECK(contents_after_losses(clone, "f") == states{"old", "new"});
    CHECK(contents_after_losses(clone, "g") == states{std::nullopt, ""});
    CHECK(clone.operations() == 0);
}

TEST_CASE("memory: a power loss keeps identities and gives another boot each time") {
    memory disk;
    durable_file(disk, "f", "x");
    CHECK(disk.boot().known());
    auto const once = disk.after_power_loss({keep::oldest}), twice = once.after_power_loss({keep::oldest});
    CHECK(std::set{disk.boot(), once.boot(), twice.boot(), disk.after_power_loss({keep::random, 7}).boot()}.size() ==
          4);
    CHECK(need(twice.status("f")).identity == need(disk.status("f")).identity);
    io::boot_id chosen;
    chosen.bytes[3] = std::byte{9};
    CHECK(memory{chosen, 5}.boot() == chosen);
    CHECK(need(memory{chosen, 5}.status("")).identity.device == 5);
    disk.set_boot(chosen);
    CHECK(disk.boot() == chosen);
}

TEST_CASE("memory: a clone and its origin do not see each other's later changes") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aaaaaaaaaaaa"));
    auto clone = disk.after_process_crash();
    need(file.write(0, as_bytes("origin")));
    need(open_file(clone, "f").write(0, as_bytes("clone")));
    need(clone.remove("f"));
    need(open_file(clone, "g").write(0, as_bytes("clone")));
    CHECK(text_of(disk, "f").value().starts_with("origin"));
    CHECK(!text_of(disk, "g"));
    CHECK(!text_of(clone, "f"));
    CHECK(clone.after_power_loss({keep::oldest}).contents("f").value().size() == 12 * 512);
}

TEST_CASE("memory: locks and files without a name are not carried over to a clone") {
    memory disk;
    auto const held = need(disk.lock("lock", io::lock_mode::exclusive));
    auto const file = durable_file(disk, "f", "x");
    need(disk.remove("f"));
    need(disk.sync_directory(""));
    CHECK(code_of(disk.lock("lock", io::lock_mode::shared)) == errc::locked);
    auto clone = disk.after_process_crash();
    need(clone.lock("lock", io::lock_mode::exclusive));
    CHECK(clone.used() == 0);
    CHECK(conformance::contents(file) == "x");
}

TEST_CASE("memory: a stopped disk refuses every call, and destructors do it no harm") {
    memory disk;
    auto held = std::optional{need(disk.lock("lock", io::lock_mode::exclusive))};
    auto file = durable_file(disk, "f", "text");
    auto map = need(file.map(access::read_write));
    disk.stop();
    std::array<std::byte, 4> room{};
    conformance::witness_sum sum;
    CHECK(code_of(file.write(0, as_bytes("x"))) == errc::crashed);
    CHECK(code_of(file.read(0, room)) == errc::crashed);
    CHECK(code_of(file.sync()) == errc::crashed);
    CHECK(code_of(file.allocate(9)) == errc::crashed);
    CHECK(code_of(file.status()) == errc::crashed);
    CHECK(code_of(file.map(access::read_only)) == errc::crashed);
    CHECK(code_of(map.store(0, as_bytes("x"))) == errc::crashed);
    CHECK(code_of(map.publish(0, 1)) == errc::crashed);
    CHECK(code_of(map.copy_out(0, room)) == errc::crashed);
    CHECK(code_of(map.verify(0, 4, sum)) == errc::crashed);
    CHECK(code_of(map.sync()) == errc::crashed);
    CHECK(code_of(disk.open("g", access::read_write, creation::if_missing)) == errc::crashed);
    CHECK(code_of(disk.lock("g", io::lock_mode::exclusive)) == errc::crashed);
    CHECK(code_of(disk.list("")) == errc::crashed);
    CHECK(code_of(disk.status("f")) == errc::crashed);
    CHECK(code_of(disk.make_directory("d")) == errc::crashed);
    CHECK(code_of(disk.rename("f", "g")) == errc::crashed);
    CHECK(code_of(disk.remove("f")) == errc::crashed);
    CHECK(code_of(disk.sync_directory("")) == errc::crashed);
    held.reset();
    CHECK(disk.files() == std::vector<std::string>{"f", "lock"});
    CHECK(text_of(disk.after_process_crash(), "f") == "text");
    need(disk.after_process_crash().remove("f"));
}

// The hook

TEST_CASE("memory: the hook sees each change once when done, with its place, and is not carried over to clones") {
    memory disk;
    std::vector<io::operation> seen;
    disk.on_operation([&](io::operation const& what) {
        if (what.at == io::operation::phase::done) seen.push_back(what);
    });
    need(disk.make_directory("d"));
    auto file = open_file(disk, "d/f");
    open_file(disk, "d/f"); // is there: no change
    need(file.allocate(2000));
    need(file.write(7, as_bytes(sectors("ab"))));
    need(file.write(7, byte_view{}));
    auto map = need(file.map(access::read_write));
    need(map.store(16, as_bytes("0123456789")));
    need(map.publish(40, 1));
    need(map.sync());
    need(file.sync());
    need(disk.rename("d/f", "d/g"));
    need(disk.sync_directory("d"));
    need(disk.remove("d/g"));
    auto const held = need(disk.lock("lock", io::lock_mode::exclusive));
    CHECK(code_of(disk.remove("d/g")) == errc::not_found);
    std::vector<operation_kind> kinds;
    for (auto const& one : seen) kinds.push_back(one.kind);
    using enum operation_kind;
    CHECK(kinds == std::vector{make_directory, create, allocate, write, store, publish, mapping_sync, sync, rename,
                               sync_directory, remove, create});
    CHECK(disk.operations() == seen.size());
    for (std::size_t i = 0; i < seen.size(); ++i) CHECK(seen[i].index == i + 1);
    CHECK(seen[3].path == "d/f");
    CHECK(seen[3].offset == 7);
    CHECK(seen[3].length == 1024);
    CHECK(seen[4].offset == 16);
    auto clone = disk.after_process_crash();
    need(clone.make_directory("e"));
    CHECK(seen.size() == kinds.size());
    disk.on_operation({});
    need(disk.make_directory("e"));
    CHECK(seen.size() == kinds.size());
}

TEST_CASE("memory: half-way through a write whole sectors are there, half-way through a store whole words") {
    memory disk;
    auto file = durable_file(disk, "f", std::string(4096, '.'));
    auto map = need(file.map(access::read_write));
    std::set<std::size_t> written, stored;
    std::string done;
    disk.on_operation([&](io::operation const& what) {
        auto const text = text_of(disk.after_process_crash(), "f").value();
        auto const letters = static_cast<std::size_t>(
            std::count(text.begin(), text.end(), what.kind == operation_kind::write ? 'w' : 's'));
        done += what.at == io::operation::phase::done ? "done " : "partly ";
        if (what.at == io::operation::phase::done) CHECK(letters == what.length);
        else (what.kind == operation_kind::write ? written : stored).insert(letters);
    });
    for (int i = 0; i < 60; ++i) {
        need(file.write(100, as_bytes(std::string(1500, 'w'))));
        need(map.store(3, as_bytes(std::string(30, 's'))));
        need(disk.replace("f", as_bytes(std::string(4096, '.'))));
    }
    CHECK(written == std::set<std::size_t>{412, 924, 1436});
    CHECK(stored == std::set<std::size_t>{5, 13, 21, 29});
    CHECK(done.starts_with("partly done partly done "));
    done.clear();
    need(file.write(10, as_bytes("wwww"))); // within a sector, and within a word: not divisible
    need(map.store(2008, as_bytes("ssss")));
    CHECK(done == "done done ");
}

TEST_CASE("memory: a hook may stop the disk half-way, and the rest of the change never comes") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aa"));
    disk.on_operation([&](io::operation const& what) {
        if (what.at == io::operation::phase::partly) disk.stop();
    });
    CHECK(code_of(file.write(0, as_bytes(sectors("bb")))) == errc::crashed);
    CHECK(text_of(disk, "f") == sectors("ba"));
}

TEST_CASE("memory: a hook sees the same history as no hook at all leaves") {
    auto const run = [](bool hooked) {
        memory disk;
        if (hooked) disk.on_operation([](io::operation const&) {});
        auto file = open_file(disk, "f");
        for (std::uint64_t i = 0; i < 20; ++i) need(file.write(i * 300, as_bytes(sectors("xyz"))));
        auto map = need(file.map(access::read_write));
        for (std::uint64_t i = 0; i < 20; ++i)
            need(map.store(i * 50, as_bytes(std::string(40, static_cast<char>('a' + i)))));
        return disk;
    };
    auto const plain = run(false), hooked = run(true);
    for (std::uint64_t seed = 0; seed < 50; ++seed)
        CHECK(plain.after_power_loss({keep::random, seed}).equal(hooked.after_power_loss({keep::random, seed})));
}

// Failed syncs

TEST_CASE("memory: after a failed sync a good one writes nothing, so a power loss can still lose the bytes") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("a"));
    need(file.write(0, as_bytes(sectors("b"))));
    file.fail_sync();
    need(file.sync());
    CHECK(text_of(disk, "f") == sectors("b"));
    CHECK(contents_after_losses(disk, "f") == states{sectors("a"), sectors("b")});
}

TEST_CASE("memory: a mapping's failed sync does the same, and spares what was durable and what is written later") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aaa"));
    auto map = need(file.map(access::read_write));
    need(map.store(0, as_bytes("b")));
    map.fail_sync();
    need(file.write(512, as_bytes(sectors("c"))));
    need(map.sync());
    CHECK(contents_after_losses(disk, "f") == states{sectors("aca"), std::string{"b"} + sectors("aca").substr(1)});
}

TEST_CASE("memory: a size whose sync failed can be lost although a later sync succeeds") {
    memory disk;
    auto file = durable_file(disk, "f", "");
    need(file.allocate(4));
    file.fail_sync();
    need(file.sync());
    CHECK(contents_after_losses(disk, "f") == states{"", std::string(4, '\0')});
}

TEST_CASE("memory: pages whose sync failed may turn into what the medium holds, and stay so") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("aa"));
    need(file.write(0, as_bytes(sectors("b"))));
    need(file.write(0, as_bytes(sectors("c"))));
    need(file.write(512, as_bytes(sectors("d"))));
    auto dirty = disk.after_process_crash();
    for (std::uint64_t seed = 0; seed < 20; ++seed) dirty.evict(seed); // nothing failed: nothing may be evicted
    CHECK(text_of(dirty, "f") == sectors("cd"));
    file.fail_sync();
    states seen;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        auto running = disk.after_process_crash();
        running.evict(seed);
        auto const now = text_of(running, "f").value();
        seen.insert(now);
        if (now != sectors("cd") && now[0] != 'c' && now[512] != 'd')
            CHECK(contents_after_losses(running, "f") == states{now});
    }
    CHECK(seen == states{sectors("aa"), sectors("ba"), sectors("ca"), sectors("ad"), sectors("bd"), sectors("cd")});
}

TEST_CASE("memory: a write after a failed sync makes the sector dirty again, even with the same bytes") {
    for (auto const* const letter : {"b", "c"}) {
        memory disk;
        auto file = durable_file(disk, "f", sectors("a"));
        need(file.write(0, as_bytes(sectors("b"))));
        file.fail_sync();
        need(file.write(0, as_bytes(sectors(letter))));
        CHECK(contents_after_losses(disk, "f").contains(sectors("a")));
        need(file.sync());
        CHECK(contents_after_losses(disk, "f") == states{sectors(letter)});
    }
}

// Damage and limits

TEST_CASE("memory: an unreadable sector is an error with file and offset until a write covers it") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("abc"));
    auto map = need(file.map(access::read_write));
    need(disk.fail_reads("f", 600, 1));
    std::array<std::byte, 512> room{};
    auto const whole = file.read(400, room);
    REQUIRE(code_of(whole) == errc::io_error);
    CHECK(whole.error().file == "f");
    CHECK(whole.error().offset == 512);
    CHECK(whole.error().cause == EIO);
    CHECK(file.read_uncached(700, room).error().offset == 700);
    CHECK(map.copy_out(400, room).error().offset == 512);
    conformance::witness_sum sum;
    CHECK(map.verify(0, 1536, sum).error().offset == 512);
    CHECK(need(file.read(0, room)) == 512);
    need(map.verify(1024, 512, sum));
    CHECK(map.store(512, as_bytes(sectors("x"))).error().offset == 512);
    CHECK(map.store(1000, as_bytes(std::string(100, 'x'))).error().offset == 1000);
    CHECK(code_of(file.write(600, as_bytes("part"))) == errc::io_error);
    CHECK(
        code_of(disk.after_power_loss({}).open("f", access::read_only, creation::must_exist).value().read(512, room)) ==
        errc::io_error);
    need(file.write(512, as_bytes(sectors("d"))));
    CHECK(need(file.read(512, room)) == 512);
    CHECK(text_of(disk, "f") == sectors("adc"));
}

TEST_CASE("memory: damage changes the medium behind handles, whatever was synced") {
    memory disk;
    auto file = durable_file(disk, "f", "0123456789");
    need(disk.corrupt("f", 2, as_bytes("xx")));
    need(disk.corrupt("f", 9, std::byte{1}));
    CHECK(conformance::contents(file) == "01xx456788");
    CHECK(contents_after_losses(disk, "f") == states{"01xx456788"});
    need(file.write(0, as_bytes("N")));
    need(disk.corrupt("f", 5, as_bytes("!")));
    CHECK(contents_after_losses(disk, "f") == states{"01xx4!6788", "N1xx4!6788"});
    CHECK(code_of(disk.corrupt("f", 10, as_bytes("x"))) == errc::invalid_argument);
    CHECK(code_of(disk.corrupt("none", 0, as_bytes("x"))) == errc::not_found);
}

TEST_CASE("memory: a file cut short is an error under its mapping, and reads to its new end") {
    memory disk;
    auto file = durable_file(disk, "f", sectors("ab"));
    auto map = need(file.map(access::read_write));
    need(disk.cut("f", 700));
    std::array<std::byte, 100> room{};
    need(map.copy_out(600, room));
    auto const gone = map.copy_out(650, room);
    REQUIRE(code_of(gone) == errc::io_error);
    CHECK(gone.error().offset == 700);
    CHECK(code_of(map.store(800, as_bytes("x"))) == errc::io_error);
    CHECK(code_of(map.publish(1020, 1)) == errc::io_error);
    CHECK(need(file.read(690, room)) == 10);
    CHECK(contents_after_losses(disk, "f") == states{sectors("ab").substr(0, 700)});
    need(disk.cut("f", 702));
    CHECK(text_of(disk, "f") == sectors("ab").substr(0, 700) + std::string(2, '\0'));
}

TEST_CASE("memory: disks are compared byte for byte, among the files that count") {
    memory a, b;
    for (auto const& disk : {a, b}) durable_file(disk, "same", sectors("xy"));
    durable_file(a, "log", "1");
    durable_file(b, "log", "2");
    CHECK(!a.equal(b));
    CHECK(a.equal(b, [](std::string_view path) { return path != "log"; }));
    need(b.replace("log", as_bytes("1")));
    CHECK(a.equal(b));
    need(b.corrupt("same", 1000, std::byte{4}));
    CHECK(!a.equal(b));
    need(b.replace("same", as_bytes(sectors("xy"))));
    durable_file(b, "more", "");
    CHECK(!a.equal(b));
}

TEST_CASE("memory: a full disk refuses new blocks, not old ones, and takes them again after freeing") {
    memory disk;
    disk.set_capacity(4 * 4096);
    auto a = open_file(disk, "a"), b = open_file(disk, "b");
    need(a.allocate(8192));
    need(b.write(0, as_bytes(std::string(8192, 'b'))));
    CHECK(disk.used() == 4 * 4096);
    auto const refused = b.write(8000, as_bytes(std::string(400, 'x')));
    REQUIRE(code_of(refused) == errc::no_space);
    CHECK(refused.error().retryable);
    CHECK(refused.error().cause == ENOSPC);
    CHECK(refused.error().offset == 8192);
    CHECK(code_of(a.allocate(8193)) == errc::no_space);
    CHECK(need(a.status()).size == 8192);
    need(a.write(0, as_bytes(std::string(8192, 'a'))));
    need(b.write(0, as_bytes("again")));
    need(disk.remove("a"));
    CHECK(code_of(b.write(8192, as_bytes("x"))) == errc::no_space); // the handle still holds the blocks
    a = std::move(b);
    need(a.write(8192, as_bytes("x")));
    CHECK(disk.used() == 3 * 4096);
}

TEST_CASE("memory: a block that is written and allocated takes its room once") {
    memory disk;
    auto file = open_file(disk, "f");
    need(file.write(4096, as_bytes("x")));
    CHECK(disk.used() == 4096);
    need(file.allocate(3 * 4096));
    CHECK(disk.used() == 3 * 4096);
    need(file.write(0, as_bytes(std::string(3 * 4096, 'y'))));
    CHECK(disk.used() == 3 * 4096);
    disk.set_capacity(4 * 4096);
    need(file.write(3 * 4096, as_bytes("x")));
    need(file.allocate(4 * 4096));
    CHECK(disk.used() == 4 * 4096);
}

TEST_CASE("memory: a hole is zeros without blocks, which a write into it and an allocation take again") {
    memory disk;
    auto file = durable_file(disk, "f", std::string(5 * 4096, 'y'));
    need(file.allocate(4 * 4096)); // the last one is owned because it was written
    CHECK(disk.used() == 5 * 4096);
    file.punch_hole(4000, 4 * 4096); // the blocks 1 to 3, and a part of two more
    CHECK(disk.used() == 2 * 4096);
    CHECK(need(file.status()).size == 5 * 4096);
    CHECK(text_of(disk, "f") == std::string(4000, 'y') + std::string(4 * 4096, '\0') + std::string(4096 - 4000, 'y'));
    file.punch_hole(4 * 4096, ~std::uint64_t{0}); // ends with the file
    CHECK(disk.used() == 4096);
    file.punch_hole(4000, 4 * 4096);
    CHECK(disk.used() == 4096);

    disk.set_capacity(2 * 4096);
    need(file.write(2 * 4096 + 7, as_bytes("x")));
    CHECK(disk.used() == 2 * 4096);
    CHECK(code_of(file.write(4096, as_bytes("x"))) == errc::no_space);
    CHECK(code_of(file.allocate(4 * 4096)) == errc::no_space);
    disk.set_capacity(5 * 4096);
    need(file.allocate(5 * 4096));
    CHECK(disk.used() == 5 * 4096);
    need(file.write(0, as_bytes(std::string(5 * 4096, 'z'))));
    CHECK(disk.used() == 5 * 4096);
    need(disk.open("f", access::read_only, creation::must_exist)).punch_hole(0, 4096);
    CHECK(disk.used() == 5 * 4096); // opened to be read only
}

TEST_CASE("memory: a hole that was not synced is there after a power loss, or what was there before") {
    memory disk;
    auto file = durable_file(disk, "f", std::string(4096, 'y'));
    file.punch_hole(0, 4096);
    CHECK(text_of(disk.after_power_loss({keep::oldest}), "f") == std::string(4096, 'y'));
    CHECK(text_of(disk.after_power_loss({keep::newest}), "f") == std::string(4096, '\0'));
    need(file.sync());
    CHECK(text_of(disk.after_power_loss({keep::oldest}), "f") == std::string(4096, '\0'));
}

TEST_CASE("memory: a store into a hole of a full disk is refused, and the mapping goes on") {
    memory disk;
    auto file = open_file(disk, "f");
    need(file.write(3 * 4096, as_bytes("end")));
    auto map = need(file.map(access::read_write));
    disk.set_capacity(4096);
    CHECK(code_of(map.store(0, as_bytes("x"))) == errc::no_space);
    need(map.store(3 * 4096, as_bytes("E")));
    disk.set_capacity(8192);
    need(map.store(0, as_bytes("x")));
}

TEST_CASE("memory: a write at an absurd offset is refused rather than attempted") {
    memory disk;
    auto file = open_file(disk, "f");
    CHECK(code_of(file.write(~std::uint64_t{0} - 2, as_bytes("text"))) == errc::invalid_argument);
    CHECK(code_of(file.allocate(~std::uint64_t{0})) == errc::invalid_argument);
    CHECK(need(file.status()).size == 0);
}

// Threads

TEST_CASE("memory: who reads a published word sees the stores before it, while others write, clone and crash") {
    memory disk;
    auto file = durable_file(disk, "f", std::string(64 * 1024, '\0'));
    auto map = need(file.map(access::read_write));
    auto const view = need(file.map(access::read_only));
    constexpr std::uint32_t rounds = 300;
    std::thread cloner{[&] {
        for (std::uint64_t i = 0; i < rounds; ++i) {
            auto clone = disk.after_power_loss({keep::random, i});
            need(open_file(clone, "f").write(0, as_bytes("mine")));
        }
    }};
    std::thread writer{[&] {
        auto other = open_file(disk, "g");
        for (std::uint64_t i = 0; i < rounds; ++i) need(other.write(i * 100, as_bytes("text"))), need(other.sync());
    }};
    bool seen_all = true;
    std::thread reader{[&] {
        for (std::uint32_t last = 0; last < rounds;) {
            need(view.copy_out(0, std::as_writable_bytes(std::span{&last, 1})));
            std::uint32_t stored = last;
            if (last > 0)
                need(view.copy_out(64 + std::uint64_t{last} * 8, std::as_writable_bytes(std::span{&stored, 1})));
            seen_all = seen_all && stored == last;
        }
    }};
    for (std::uint32_t i = 1; i <= rounds; ++i) {
        need(map.store(64 + std::uint64_t{i} * 8, std::as_bytes(std::span{&i, 1})));
        need(map.publish(0, i));
    }
    cloner.join();
    writer.join();
    reader.join();
    CHECK(seen_all);
    CHECK(disk.operations() == 2 * rounds + 2 * rounds + 1);
}
