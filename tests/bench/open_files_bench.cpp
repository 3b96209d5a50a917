// SPDX-License-Identifier: BSL-1.0
// Stores with more tables than a process may have open, scanned, read and written where 256 files may be open and where 8,192 may.
//   1100_tables  of 64 KiB each: what costs is the number of files, not their bytes
//   16_gib       1,024 tables of 16 MiB. The values are zeros, and whole pages of zeros are given back to the disk (a sparse file reads the
//                same), so that the store takes little of it; every byte is read and verified all the same
// Each job has a process of its own; it fails where a key is missed, or the host cannot open a file.
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
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

using small_tables = keel::engine<keel::segment_size<64 * keel::KiB>, keel::compaction::leveled<512 * keel::KiB, 10>,
                                  keel::durability::os_buffered>;
using large_tables = keel::engine<keel::durability::os_buffered>;
constexpr std::uint64_t tables_wanted = 1100;

/// What stands in a store, and how often it is used.
struct content {
    std::uint64_t keys = 0;
    std::size_t value_bytes = 400;
    std::uint64_t reads = 200'000;
    std::uint64_t writes = 20'000;
};

std::string key_of(std::uint64_t i) {
    auto digits = std::to_string(i);
    return "key" + std::string(9 - digits.size(), '0') + digits;
}
template <class Result>
auto need(Result got) {
    if (!got) throw std::runtime_error{to_string(got.error())};
    return got;
}
template <class Store>
std::uint64_t tables_of(Store const& db) {
    std::uint64_t n = 0;
    for (auto const& l : db.storage().levels) n += l.tables;
    return n;
}
std::uint64_t files_open() {
    std::uint64_t n = 0;
    for (auto const& one : std::filesystem::directory_iterator{"/proc/self/fd"}) n += one.exists();
    return n;
}

content fill_small(std::string const& folder) {
    auto db = need(small_tables::open(folder));
    content out;
    while (tables_of(*db) < tables_wanted) {
        for (auto const end = out.keys == 0 ? std::uint64_t{180'000} : out.keys + 10'000; out.keys < end; ++out.keys)
            need(db->put(key_of(out.keys), std::string(out.value_bytes, 'v')));
        need(db->compact());
    }
    need(db->close());
    return out;
}

/// Gives whole pages of zeros back to the disk.
void make_sparse(std::filesystem::path const& path) {
    constexpr off_t page = 4096;
    auto const file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file < 0) throw std::runtime_error{"cannot open " + path.string()};
    std::vector<char> bytes(1 << 20);
    off_t at = 0;
    for (ssize_t got = 0; (got = ::pread(file, bytes.data(), bytes.size(), at)) > 0; at += got) {
        off_t begin = at;
        for (off_t here = at; here <= at + got; here += page) {
            bool const zero = here + page <= at + got &&
                              std::all_of(bytes.data() + (here - at), bytes.data() + (here - at) + page,
                                          [](char c) { return c == 0; });
            if (zero) continue;
            if (here > begin && ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin, here - begin) != 0)
                throw std::runtime_error{"no hole can be made in " + path.string()};
            begin = here + page;
        }
    }
    ::close(file);
}
content fill_large(std::string const& folder) {
    content out{.value_bytes = keel::MiB, .reads = 4'000, .writes = 400};
    std::string const zeros(out.value_bytes, '\0');
    for (int part = 0; part < 16; ++part) {
        auto db = need(large_tables::open(folder));
        std::vector<std::pair<std::string, std::string_view>> sorted;
        for (int i = 0; i < 1024; ++i) sorted.emplace_back(key_of(out.keys++), zeros);
        need(db->ingest(sorted));
        need(db->close());
        for (auto const& each : std::filesystem::directory_iterator{folder + "/tables"})
            if (each.path().extension() == ".tab") make_sparse(each.path());
    }
    return out;
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

template <class Store>
bench::figures use(std::string const& folder, content const& in, rlim_t files) {
    allow(files);
    auto db = need(Store::open(folder));
    bench::figures out;
    out.push_back({"tables", static_cast<double>(tables_of(*db)), "files"});
    for (auto const* turn : {"first_scan", "second_scan"}) {
        bench::stopwatch const watch;
        std::uint64_t seen = 0;
        auto all = db->scan();
        for (auto const& kv : all) seen += kv.second.size() == in.value_bytes;
        need(all.status());
        if (seen != in.keys) throw std::runtime_error{"a scan saw " + std::to_string(seen) + " keys"};
        out.push_back({turn, static_cast<double>(seen) / watch.wall(), "keys/s"});
        check_host();
    }
    std::mt19937_64 random{7};
    bench::stopwatch const reading;
    for (std::uint64_t n = 0; n < in.reads; ++n)
        if (!*need(db->get(key_of(random() % in.keys)))) throw std::runtime_error{"a key is missing"};
    out.push_back({"random_gets", static_cast<double>(in.reads) / reading.wall(), "gets/s"});
    bench::stopwatch const writing;
    for (std::uint64_t n = 0; n < in.writes; ++n)
        need(db->put(key_of(random() % in.keys), std::string(in.value_bytes, 'v')));
    out.push_back({"random_puts", static_cast<double>(in.writes) / writing.wall(), "puts/s"});
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
        bench::table all{false};
        auto const run = [&]<class Store>(char const* job, content (*fill)(std::string const&)) {
            auto const in = fill(folder);
            for (rlim_t const files : {rlim_t{256}, rlim_t{8192}})
                all.add(job, "at_" + std::to_string(files),
                        bench::in_own_process([&] { return use<Store>(folder, in, files); }));
            std::filesystem::remove_all(folder);
        };
        run.operator()<small_tables>("1100_tables", fill_small);
        run.operator()<large_tables>("16_gib", fill_large);
        all.print();
        return 0;
    } catch (std::exception const& why) {
        std::fprintf(stderr, "%s\n", why.what());
        return 1;
    }
}
