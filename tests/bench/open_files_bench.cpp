// SPDX-License-Identifier: BSL-1.0
// A store with as many tables as 16 GiB make (1,100 of 16 MiB), scanned, read and written by a process that may have 256 files open, beside
// one that may have 8,192. The tables here are small, 64 KiB each: what is measured is the number of files, not of bytes, so the store fits
// every disk and its bytes the page cache, and it is not sparse. Each job has a process of its own; it fails where a key is missed, or the host cannot open a file.
//   open_files_bench [FOLDER]
#include "jobs.hpp"

#include <keel/keel.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

using store = keel::engine<keel::segment_size<64 * keel::KiB>, keel::compaction::leveled<512 * keel::KiB, 10>,
                           keel::durability::os_buffered>;
constexpr std::uint64_t tables_wanted = 1100;
constexpr std::size_t value_bytes = 400;

std::string key_of(std::uint64_t i) {
    auto digits = std::to_string(i);
    return "key" + std::string(9 - digits.size(), '0') + digits;
}
template <class Result>
auto need(Result got) {
    if (!got) throw std::runtime_error{to_string(got.error())};
    return got;
}
std::uint64_t tables_of(store const& db) {
    std::uint64_t n = 0;
    for (auto const& l : db.storage().levels) n += l.tables;
    return n;
}
std::uint64_t files_open() {
    std::uint64_t n = 0;
    for (auto const& one : std::filesystem::directory_iterator{"/proc/self/fd"}) n += one.exists();
    return n;
}

/// How many keys it takes.
std::uint64_t fill(std::string const& folder) {
    auto db = need(store::open(folder));
    std::uint64_t keys = 0;
    while (tables_of(*db) < tables_wanted) {
        for (auto const end = keys == 0 ? std::uint64_t{180'000} : keys + 10'000; keys < end; ++keys)
            need(db->put(key_of(keys), std::string(value_bytes, 'v')));
        need(db->compact());
    }
    need(db->close());
    return keys;
}

void allow(rlim_t files) {
    rlimit now{};
    if (::getrlimit(RLIMIT_NOFILE, &now) != 0) throw std::runtime_error{"no limit of open files"};
    now.rlim_cur = std::min(files, now.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &now) != 0) throw std::runtime_error{"the limit of open files stays as it is"};
}
void check_host() {
    auto const file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (file < 0) throw std::runtime_error{"the host cannot open a file"};
    ::close(file);
}

bench::figures use(std::string const& folder, std::uint64_t keys, rlim_t files) {
    allow(files);
    auto db = need(store::open(folder));
    bench::figures out;
    for (auto const* turn : {"first_scan", "second_scan"}) {
        bench::stopwatch const watch;
        std::uint64_t seen = 0;
        auto all = db->scan();
        for (auto const& kv : all) seen += kv.second.size() == value_bytes;
        need(all.status());
        if (seen != keys) throw std::runtime_error{"a scan saw " + std::to_string(seen) + " keys"};
        out.push_back({turn, static_cast<double>(seen) / watch.wall(), "keys/s"});
        check_host();
    }
    constexpr std::uint64_t reads = 200'000;
    std::mt19937_64 random{7};
    bench::stopwatch const reading;
    for (std::uint64_t n = 0; n < reads; ++n)
        if (!*need(db->get(key_of(random() % keys)))) throw std::runtime_error{"a key is missing"};
    out.push_back({"random_gets", static_cast<double>(reads) / reading.wall(), "gets/s"});
    constexpr std::uint64_t writes = 20'000;
    bench::stopwatch const writing;
    for (std::uint64_t n = 0; n < writes; ++n) need(db->put(key_of(random() % keys), std::string(value_bytes, 'v')));
    out.push_back({"random_puts", static_cast<double>(writes) / writing.wall(), "puts/s"});
    check_host();
    out.push_back({"open_files", static_cast<double>(files_open()), "files"});
    out.push_back({"of_the_store", static_cast<double>(db->storage().open_files), "files"});
    out.push_back({"mapped_files", static_cast<double>(db->storage().mapped_files), "files"});
    need(db->close());
    return out;
}

} // namespace

int main(int count, char** arguments) {
    try {
        std::string const folder = (count > 1 ? std::string{arguments[1]} : std::string{"/tmp"}) + "/keel-open-files-" +
                                   std::to_string(::getpid());
        auto const keys = fill(folder);
        bench::table all{false};
        for (rlim_t const files : {rlim_t{256}, rlim_t{8192}})
            all.add("1100_tables", "at_" + std::to_string(files),
                    bench::in_own_process([&] { return use(folder, keys, files); }));
        std::filesystem::remove_all(folder);
        all.print();
        return 0;
    } catch (std::exception const& why) {
        std::fprintf(stderr, "%s\n", why.what());
        return 1;
    }
}
