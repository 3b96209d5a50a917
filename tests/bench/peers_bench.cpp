// SPDX-License-Identifier: BSL-1.0
// keel beside LevelDB, RocksDB, LMDB and SQLite, the whole of each doing the same work. Prints `name peer metric value unit`, the median of the
// rounds, then how keel stands to the best of the others. Rounds go through all peers before the next begins, each job runs in a
// process of its own, and crashes are real: SIGKILL.
//   append_unsynced, append_sequential         puts that survive the process only; keys in order
//   batch_100, batch_100_sequential            the same in batches of 100, each there whole or not at all
//   settle             1 Mi keys put in random order, until nothing in the store's folder changes any more: what that took
//   get_random, multi_get_16, scan_all, scan_short, open_closed   over these, closed in order; LevelDB, LMDB and SQLite get 16 keys
//                      one after the other, LMDB in one transaction
//   get_1_while_putting, get_8_while_putting   so many threads get random ones while one more puts them anew
//   scan_updated       walks over 1 to 100 keys and one insertion for nineteen of them, second by second: before, while a thread puts keys
//                      anew that come as YCSB draws them, right after, and once nothing in the folder changes any more
//   put_for_long       keys that do not come again, for KEEL_BENCH_SECONDS (30): the rate of each second, the longest puts. Only with
//                      --only put_for_long
//   append_synced_N    puts that survive power loss, by N threads
//   scan               keel's log alone: open with one thread, records of 128 bytes with their frames; checks all, keeps nothing
//   recovery           open after a crash, all of 2 Mi records in the log, every byte of it verified; one thread
//   first_get_1MiB, _64MiB, _256MiB, _1GiB   open after a crash and read one key; so much log (8 Ki, 512 Ki, 2 Mi, 8 Mi records) behind a
//                      small store. `_warm`: in a process that has opened another store before. Without those that cannot keep so much in
//                      their log, or should not: SQLite from 256 MiB on, of recovery, too, and LevelDB at 1 GiB
//   first_get_256MiB_damaged   the same with every index in keel's log damaged, and reading the log's first key: everything is scanned, as
//                      the others do anyway
// keel_log is the log without keys and order; keel_mapped_tables is keel with table_access::mapped, where only reading differs.

#include "jobs.hpp"
#include "material.hpp"
#include "stores.hpp"
#include "workloads.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#if defined(KEEL_BENCH_LEVELDB)
#include <leveldb/db.h>
#endif
#if defined(KEEL_BENCH_ROCKSDB)
#include <rocksdb/version.h>
#endif

// The program's own operators, so that what the peers' libraries allocate is counted too. Not inlined: where GCC sees only one of a
// pair it takes it for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    auto* const memory = std::malloc(bytes == 0 ? 1 : bytes);
    if (memory == nullptr) throw std::bad_alloc{};
    bench::heap_counter::took(memory);
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    bench::heap_counter::gave(memory);
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

namespace {

using bench::figures;
using bench::log_image;
using bench::mode;
using bench::peer;
using bench::settle;

struct settings {
    std::string folder = ".";
    std::vector<std::string> only{};
    std::vector<std::string> peers{};
    unsigned rounds = 5;
    bool best_round = false;
    std::string json{}; ///< file that gets all figures; empty: none
    std::string svg{};  ///< file that gets a picture of them
};

bool chosen(std::vector<std::string> const& list, std::string const& name) {
    return list.empty() || std::ranges::find(list, name) != list.end();
}

// ---- the run ----------------------------------------------------------------------------------------------------------

/// One round of a recovery job on a crashed store at `image`; the first round also counts memory.
void recovery_round(bench::table& out, std::string const& name, peer const& who, std::string const& image, mode how,
                    log_image const& what, bool count_memory) {
    auto const once = [&](auto const& job) {
        auto folder = image;
        if (who.open_writes) {
            folder += "-copy";
            std::filesystem::copy(image, folder, std::filesystem::copy_options::recursive);
        } else {
            bench::read_files(folder); // a copy is in the page cache, too
        }
        settle(folder);
        out.add(name, who.name, bench::in_own_process([&] { return job(who, folder, how, what); }));
        if (who.open_writes) std::filesystem::remove_all(folder);
    };
    once(bench::recover);
    if (how == mode::recover_on_all_cores) once(bench::recover_warm);
    if (count_memory) once(bench::recover_counting);
}

class run {
public:
    explicit run(settings what) : what_{std::move(what)}, folder_{what_.folder} {
        for (auto const& p : bench::all_peers())
            if (chosen(what_.peers, p.name)) peers_.push_back(p);
    }

    void all() {
        head();
        for (unsigned round = 0; round < what_.rounds; ++round) {
            appends();
            reads();
            scans(round);
            recoveries("recovery", mode::recover, {0, 2 << 20}, round);
            recoveries("first_get_1MiB", mode::recover_on_all_cores, {1000, 8 << 10}, round);
            recoveries("first_get_64MiB", mode::recover_on_all_cores, {1000, 512 << 10}, round);
            recoveries("first_get_256MiB", mode::recover_on_all_cores, {1000, 2 << 20}, round);
            damaged("first_get_256MiB_damaged", {1000, 2 << 20});
            recoveries("first_get_1GiB", mode::recover_on_all_cores, {1000, 8 << 20}, round);
        }
        table_.print();
        if (!what_.json.empty()) std::ofstream{what_.json} << table_.json().dump(2) << '\n';
        if (!what_.svg.empty())
            std::ofstream{what_.svg} << bench::svg_of(
                table_.chart(), "16-byte keys in random order, 100-byte values; " + std::to_string(what_.rounds) +
                                    (what_.best_round ? " rounds, the best" : " rounds, medians") +
                                    "; LevelDB and RocksDB as Debian builds them");
    }

private:
    void head() const {
        std::printf(
            "# %u rounds, %s; keys 16 bytes in random order, values 100 bytes that do not compress; warm page cache\n",
            what_.rounds, what_.best_round ? "the best of them" : "medians");
#if defined(KEEL_BENCH_LEVELDB)
        std::printf("# LevelDB %d.%d\n", leveldb::kMajorVersion, leveldb::kMinorVersion);
#endif
#if defined(KEEL_BENCH_ROCKSDB)
        std::printf("# RocksDB %d.%d.%d\n", ROCKSDB_MAJOR, ROCKSDB_MINOR, ROCKSDB_PATCH);
#endif
        std::printf("# As Debian builds them both have assertions on and no CRC-32C by hardware: release builds "
                    "recover 1.0 to 2 times as fast.\n"
                    "# Their logs are written with a write buffer that holds all, and recovered with the options that "
                    "do it fastest.\n");
    }

    void appends() {
        for (auto const order : {bench::key_order::random, bench::key_order::sequential}) {
            std::string const suffix = order == bench::key_order::random ? "" : "_sequential";
            each(suffix.empty() ? "append_unsynced" : "append_sequential",
                 [&](peer const& who, std::string const& at) { return bench::append_unsynced(who, at, order); });
            each("batch_100" + suffix, [&](peer const& who, std::string const& at) {
                return who.name == "keel_log" ? figures{} : bench::batch_100(who, at, order);
            });
        }
        // Only where it is asked for: peers that write in place take minutes to fill their folder again.
        if (std::ranges::find(what_.only, "put_for_long") != what_.only.end())
            each("put_for_long", [&](peer const& who, std::string const& at) {
                auto const* const text = std::getenv("KEEL_BENCH_SECONDS");
                auto const seconds = text != nullptr ? std::max(1, std::atoi(text)) : 30;
                return bench::put_for_long(who, at, static_cast<unsigned>(seconds));
            });
        each("append_synced_1",
             [&](peer const& who, std::string const& at) { return bench::append_synced(who, at, 1, 4000); });
        each("append_synced_8",
             [&](peer const& who, std::string const& at) { return bench::append_synced(who, at, 8, 40'000); });
    }

    void reads() {
        for (auto const& who : peers_) {
            if (who.name == "keel_log") continue; // no keys, no order
            auto const image = folder_ / (who.name + "-loaded");
            auto const once = [&](std::string const& name, auto const& job) {
                if (!chosen(what_.only, name)) return;
                if (!std::filesystem::exists(image)) {
                    auto const loaded = bench::load(who, image);
                    if (chosen(what_.only, "settle")) table_.add("settle", who.name, loaded);
                }
                bench::read_files(image); // other peers' stores may have pushed it out
                settle(what_.folder);
                if (name != "settle")
                    table_.add(name, who.name, bench::in_own_process([&] { return job(who, image); }));
            };
            once("settle", bench::open_closed);
            once("open_closed", bench::open_closed);
            once("open_closed", bench::open_closed_warm);
            once("get_random", bench::get_random);
            once("multi_get_16", bench::multi_get);
            once("scan_all", bench::scan_all);
            once("scan_short", bench::scan_short);
            auto const on_a_copy = [&](auto const& job) {
                return [&](peer const& one, std::string const& at) {
                    bench::temporary_folder const changed{std::filesystem::path{at}.parent_path()};
                    std::filesystem::copy(at, changed / "store", std::filesystem::copy_options::recursive);
                    return job(one, changed / "store");
                };
            };
            for (unsigned const threads : {1U, 8U})
                once("get_" + std::to_string(threads) + "_while_putting",
                     on_a_copy([&](peer const& one, std::string const& at) {
                         return bench::get_while_putting(one, at, threads);
                     }));
            once("scan_updated", on_a_copy(bench::scan_updated));
        }
    }

    template <class Job>
    void each(std::string const& name, Job const& job) {
        if (!chosen(what_.only, name)) return;
        for (auto const& who : peers_) {
            if (who.only_reads) continue;
            bench::temporary_folder const fresh{what_.folder};
            settle(what_.folder);
            table_.add(name, who.name, bench::in_own_process([&] { return job(who, fresh / "store"); }));
        }
    }

    void scans(unsigned round) {
        if (!chosen(what_.only, "scan") || !chosen(what_.peers, "keel_log")) return;
        auto const image = folder_ / "scan";
        if (!std::filesystem::exists(image)) bench::write_scan_image(image);
        table_.add("scan", "keel_log", bench::in_own_process([&] { return bench::scan_log(image, false); }));
        if (round == 0)
            table_.add("scan", "keel_log", bench::in_own_process([&] { return bench::scan_log(image, true); }));
    }

    /// Where the log is to be written first: it is the same for all jobs that want it so long.
    [[nodiscard]] std::string image_of(peer const& who, log_image const& what) {
        auto const image = folder_ / (who.name + '-' + std::to_string(what.base) + '-' + std::to_string(what.records));
        if (!std::filesystem::exists(image)) {
            bench::write_image(who, image, what);
            settle(what_.folder);
        }
        return image;
    }
    void damaged(std::string const& name, log_image const& what) {
        if (!chosen(what_.only, name)) return;
        for (auto const& who : peers_) {
            if (who.only_reads || who.name == "keel_log" || what.records > who.log_records_max) continue;
            auto const image = image_of(who, what);
            if (who.log_bytes(image, what.records) == 0) continue;
            bench::temporary_folder const changed{what_.folder};
            std::filesystem::copy(image, changed / "store", std::filesystem::copy_options::recursive);
            if (who.damage_indexes != nullptr) who.damage_indexes(changed / "store");
            settle(what_.folder);
            table_.add(name, who.name, bench::in_own_process([&] {
                           return bench::recover_damaged(who, changed / "store", mode::recover_on_all_cores, what);
                       }));
        }
    }
    void recoveries(std::string const& name, mode how, log_image const& what, unsigned round) {
        if (!chosen(what_.only, name)) return;
        for (auto const& who : peers_) {
            if (who.only_reads || what.records > who.log_records_max) continue;
            recovery_round(table_, name, who, image_of(who, what), how, what, round == 0);
        }
    }

    settings what_;
    bench::temporary_folder folder_;
    std::vector<peer> peers_{};
    bench::table table_{what_.best_round};
};

constexpr std::string_view usage =
    "peers_bench [--dir FOLDER] [--rounds N] [--best] [--only NAME]... [--peer NAME]... [--json FILE] [--svg FILE]\n";

settings read_settings(std::span<char*> arguments) {
    settings out;
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        std::string_view const flag = arguments[i];
        if (flag == "--best") {
            out.best_round = true;
            continue;
        }
        if (i + 1 == arguments.size()) throw std::invalid_argument{std::string{usage}};
        std::string const value = arguments[++i];
        if (flag == "--dir") out.folder = value;
        else if (flag == "--rounds") out.rounds = static_cast<unsigned>(std::stoul(value));
        else if (flag == "--only") out.only.push_back(value);
        else if (flag == "--peer") out.peers.push_back(value);
        else if (flag == "--json") out.json = value;
        else if (flag == "--svg") out.svg = value;
        else throw std::invalid_argument{std::string{usage}};
    }
    return out;
}

} // namespace

int main(int count, char** arguments) {
    try {
        static_cast<void>(bench::all_values()); // every job's process begins with them: making them is in no figure
        run{read_settings({arguments, static_cast<std::size_t>(count)})}.all();
        return 0;
    } catch (std::exception const& why) {
        std::fprintf(stderr, "%s\n", why.what());
        return 1;
    }
}
