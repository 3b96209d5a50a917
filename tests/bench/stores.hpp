// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_STORES_HPP
#define KEEL_BENCH_STORES_HPP

// The stores that are compared, behind one face. Errors are thrown: a benchmark that fails has no figure.

#include "material.hpp"

#include <keel/engine.hpp>
#include <keel/log.hpp>
#include <keel/policy/durability/group_commit.hpp>
#include <keel/policy/durability/os_buffered.hpp>

#if defined(KEEL_BENCH_LEVELDB)
#include <leveldb/db.h>
#endif
#if defined(KEEL_BENCH_ROCKSDB)
#include <rocksdb/db.h>
#endif

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

enum class mode : std::uint8_t {
    unsynced,   ///< a write survives the process, not power loss; otherwise as the store comes
    synced,     ///< a write survives power loss
    all_in_log, ///< like unsynced, and nothing of the log is covered by tables
    recover,    ///< opened on what all_in_log left, the way that opens it fastest; one thread where there is a choice
    recover_on_all_cores,
};

class store {
public:
    virtual ~store() = default;
    virtual void put(std::string_view key, std::string_view value) = 0;
    [[nodiscard]] virtual bool holds(std::string_view key, std::string_view value) = 0;
    store() = default;
    store(store const&) = delete;
    store& operator=(store const&) = delete;
};

struct peer {
    std::string name{};
    std::unique_ptr<store> (*open)(std::string const& folder, mode how) = nullptr;
    std::uint64_t (*log_bytes)(std::string const& folder, std::uint64_t records) = nullptr;
    bool open_writes = true; ///< opening after a crash changes the store, so that each round needs a copy
};

// ---- keel -------------------------------------------------------------------------------------------------------------

namespace detail {

[[nodiscard]] inline keel::open_options options_for(mode how) {
    keel::open_options options;
    if (how == mode::recover) {
        options.recovery_threads = 1;
        options.verify = keel::verify_depth::deep; // every byte of the log, as the others' recovery reads it
    }
    return options;
}

template <class Durability>
class keel_store final : public store {
public:
    keel_store(std::string const& folder, mode how)
        : engine_{must(keel::engine<Durability>::open(folder, options_for(how)))} {}
    void put(std::string_view key, std::string_view value) override { must(engine_.put(key, value)); }
    bool holds(std::string_view key, std::string_view value) override {
        auto const found = must(engine_.get(key));
        return found && *found == value;
    }

private:
    keel::engine<Durability> engine_;
};

/// The log alone: no index, so nothing to look up; what it holds is its newest record.
template <class Durability>
class keel_log_store final : public store {
public:
    keel_log_store(std::string const& folder, mode how)
        : log_{must(keel::log<Durability>::open(folder, options_for(how)))} {}
    void put(std::string_view key, std::string_view value) override {
        char record[16 + values::bytes];
        key.copy(record, key.size());
        value.copy(record + key.size(), value.size());
        must(log_.append(std::string_view{record, key.size() + value.size()}));
    }
    bool holds(std::string_view key, std::string_view value) override {
        auto reader = log_.read_from(log_.last_lsn());
        auto const newest = must(reader.next());
        return newest && keel::as_text(newest->value) == std::string{key} + std::string{value};
    }

private:
    keel::log<Durability> log_;
};

template <template <class> class Store>
[[nodiscard]] std::unique_ptr<store> open_keel(std::string const& folder, mode how) {
    if (how == mode::synced) return std::make_unique<Store<keel::durability::group_commit>>(folder, how);
    return std::make_unique<Store<keel::durability::os_buffered>>(folder, how);
}

/// Segments are as long before anything is written to them: what counts is the frames.
[[nodiscard]] inline std::uint64_t keel_log_bytes(std::string const&, std::uint64_t records) {
    return records * keel::format::frame_bytes(16 + values::bytes);
}

[[nodiscard]] inline std::uint64_t files_ending_in(std::string const& folder, std::string_view suffix) {
    std::uint64_t bytes = 0;
    for (auto const& entry : std::filesystem::directory_iterator{folder})
        if (entry.path().string().ends_with(suffix)) bytes += entry.file_size();
    return bytes;
}

#if defined(KEEL_BENCH_LEVELDB)
class leveldb_store final : public store {
public:
    leveldb_store(std::string const& folder, mode how) {
        leveldb::Options options;
        options.create_if_missing = true;
        options.compression = leveldb::kNoCompression;
        if (how == mode::all_in_log) options.write_buffer_size = 1 << 30;
        // With its small write buffer recovery stays in the cache, and a log that fits into it is not written out again.
        if (how == mode::recover || how == mode::recover_on_all_cores) options.reuse_logs = true;
        write_.sync = how == mode::synced;
        leveldb::DB* db = nullptr;
        check(leveldb::DB::Open(options, folder, &db));
        db_.reset(db);
    }
    void put(std::string_view key, std::string_view value) override {
        check(db_->Put(write_, slice(key), slice(value)));
    }
    bool holds(std::string_view key, std::string_view value) override {
        std::string found;
        check(db_->Get({}, slice(key), &found));
        return found == value;
    }
    [[nodiscard]] static std::unique_ptr<store> open(std::string const& folder, mode how) {
        return std::make_unique<leveldb_store>(folder, how);
    }
    [[nodiscard]] static std::uint64_t log_bytes(std::string const& folder, std::uint64_t) {
        return files_ending_in(folder, ".log");
    }

private:
    static void check(leveldb::Status const& done) {
        if (!done.ok()) throw std::runtime_error{"leveldb: " + done.ToString()};
    }
    static leveldb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
    std::unique_ptr<leveldb::DB> db_{};
    leveldb::WriteOptions write_{};
};
#endif

#if defined(KEEL_BENCH_ROCKSDB)
class rocksdb_store final : public store {
public:
    rocksdb_store(std::string const& folder, mode how) {
        rocksdb::Options options;
        options.create_if_missing = true;
        options.compression = rocksdb::kNoCompression;
        if (how == mode::all_in_log) options.write_buffer_size = std::size_t{3} << 30;
        if (how == mode::recover || how == mode::recover_on_all_cores) {
            options.avoid_flush_during_recovery = true;
            options.skip_stats_update_on_db_open = true;
            options.skip_checking_sst_file_sizes_on_db_open = true;
        }
        write_.sync = how == mode::synced;
        rocksdb::DB* db = nullptr;
        check(rocksdb::DB::Open(options, folder, &db));
        db_.reset(db);
    }
    void put(std::string_view key, std::string_view value) override {
        check(db_->Put(write_, slice(key), slice(value)));
    }
    bool holds(std::string_view key, std::string_view value) override {
        std::string found;
        check(db_->Get({}, slice(key), &found));
        return found == value;
    }
    [[nodiscard]] static std::unique_ptr<store> open(std::string const& folder, mode how) {
        return std::make_unique<rocksdb_store>(folder, how);
    }
    [[nodiscard]] static std::uint64_t log_bytes(std::string const& folder, std::uint64_t) {
        return files_ending_in(folder, ".log");
    }

private:
    static void check(rocksdb::Status const& done) {
        if (!done.ok()) throw std::runtime_error{"rocksdb: " + done.ToString()};
    }
    static rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
    std::unique_ptr<rocksdb::DB> db_{};
    rocksdb::WriteOptions write_{};
};
#endif

} // namespace detail

/// Those that this build knows.
[[nodiscard]] inline std::vector<peer> all_peers() {
    std::vector<peer> out{
        {"keel", detail::open_keel<detail::keel_store>, detail::keel_log_bytes, false},
        {"keel_log", detail::open_keel<detail::keel_log_store>, detail::keel_log_bytes, false},
    };
#if defined(KEEL_BENCH_LEVELDB)
    out.push_back({"leveldb", detail::leveldb_store::open, detail::leveldb_store::log_bytes});
#endif
#if defined(KEEL_BENCH_ROCKSDB)
    out.push_back({"rocksdb", detail::rocksdb_store::open, detail::rocksdb_store::log_bytes});
#endif
    return out;
}

} // namespace bench

#endif
