// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_STORES_HPP
#define KEEL_BENCH_STORES_HPP

// The stores that are compared, behind one face. Errors are thrown: a benchmark that fails has no figure.

#include "material.hpp"

#include <keel/engine.hpp>
#include <keel/log.hpp>
#include <keel/policy/compaction/by_hand.hpp>
#include <keel/policy/durability/group_commit.hpp>
#include <keel/policy/durability/os_buffered.hpp>
#include <keel/policy/table_access/mapped.hpp>

#if defined(KEEL_BENCH_LEVELDB)
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#endif
#if defined(KEEL_BENCH_LMDB)
#include <lmdb.h>
#endif
#if defined(KEEL_BENCH_ROCKSDB)
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#endif
#if defined(KEEL_BENCH_SQLITE)
#include <sqlite3.h>
#endif

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
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
    using record = std::pair<std::string_view, std::string_view>;
    /// All of it or nothing.
    virtual void put_batch(std::span<record const>) { throw std::logic_error{"no batches"}; }
    /// How many of the keys have a value, looked up together where the store can.
    [[nodiscard]] virtual std::size_t hold_all(std::span<std::string_view const>) { throw std::logic_error{"no keys"}; }
    /// Looks at every key and value in key order; how many there are.
    [[nodiscard]] virtual std::uint64_t scan() { throw std::logic_error{"no order"}; }
    /// The same from that key on, for at most so many.
    [[nodiscard]] virtual std::uint64_t scan_from(std::string_view, std::uint64_t) {
        throw std::logic_error{"no order"};
    }
    /// For a second thread, where it should not use this object; the store must outlive it.
    [[nodiscard]] virtual std::unique_ptr<store> for_another_thread() { return nullptr; }
    store() = default;
    store(store const&) = delete;
    store& operator=(store const&) = delete;
};

struct peer {
    std::string name{};
    std::unique_ptr<store> (*open)(std::string const& folder, mode how) = nullptr;
    std::uint64_t (*log_bytes)(std::string const& folder, std::uint64_t records) = nullptr;
    bool open_writes = true; ///< opening after a crash changes the store, so that each round needs a copy
    bool only_reads = false; ///< another peer that reads otherwise: writing and recovering are that one's
    std::uint64_t log_records_max =
        std::numeric_limits<std::uint64_t>::max(); ///< more it cannot, or should not, keep in its log
    /// Spoils all that spares recovery from reading the log; nothing where there is no such thing.
    void (*damage_indexes)(std::string const& folder) = nullptr;
};

// ---- keel -------------------------------------------------------------------------------------------------------------

namespace detail {

[[nodiscard]] inline keel::open_options options_for(mode how) {
    keel::open_options options;
    options.cache_bytes = 512 * keel::MiB; // as the others get
    if (how == mode::recover) {
        options.recovery_threads = 1;
        options.verify = keel::verify_depth::deep; // every byte of the log, as the others' recovery reads it
    }
    return options;
}

template <class Durability, class Compaction = keel::compaction::leveled<>, class Access = keel::table_access::cached>
class keel_store final : public store {
public:
    keel_store(std::string const& folder, mode how)
        : engine_{must(keel::engine<Durability, Compaction, Access>::open(folder, options_for(how)))} {}
    void put(std::string_view key, std::string_view value) override { must(engine_.put(key, value)); }
    bool holds(std::string_view key, std::string_view value) override {
        auto const found = must(engine_.get(key));
        return found && *found == value;
    }
    void put_batch(std::span<record const> all) override {
        keel::write_batch batch;
        for (auto const& [key, value] : all) batch.put(key, value);
        must(engine_.write(batch));
    }
    [[nodiscard]] std::size_t hold_all(std::span<std::string_view const> keys) override {
        std::size_t found = 0;
        for (auto const& v : must(engine_.multi_get(keys))) found += v.has_value();
        return found;
    }
    [[nodiscard]] std::uint64_t scan() override {
        auto all = engine_.scan();
        return count(all, std::numeric_limits<std::uint64_t>::max());
    }
    [[nodiscard]] std::uint64_t scan_from(std::string_view key, std::uint64_t most) override {
        auto some = engine_.scan(keel::range{.from = std::string{key}});
        return count(some, most);
    }

private:
    template <class Scan>
    static std::uint64_t count(Scan& some, std::uint64_t most) {
        std::uint64_t seen = 0;
        std::size_t bytes = 0;
        for (auto at = some.begin(); seen < most && at != some.end(); ++at, ++seen) {
            auto&& [key, value] = *at;
            bytes += key.size() + value.size();
        }
        must(some.status());
        if (bytes == 0) throw std::runtime_error{"an empty store"};
        return seen;
    }
    keel::engine<Durability, Compaction, Access> engine_;
};

/// The log alone: no index, so nothing to look up; what it holds is its newest record.
template <class Durability>
class keel_log_store final : public store {
public:
    keel_log_store(std::string const& folder, mode how)
        : log_{must(keel::log<Durability>::open(folder, options_for(how)))} {}
    void put(std::string_view key, std::string_view value) override {
        char text[16 + values::bytes];
        key.copy(text, key.size());
        value.copy(text + key.size(), value.size());
        must(log_.append(std::string_view{text, key.size() + value.size()}));
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
template <class Durability>
using keel_merging_store = keel_store<Durability>;
[[nodiscard]] inline std::unique_ptr<store> open_keel_engine(std::string const& folder, mode how) {
    // Recovery is measured on a log that nothing was merged of.
    if (how == mode::synced || how == mode::unsynced) return open_keel<keel_merging_store>(folder, how);
    return std::make_unique<keel_store<keel::durability::os_buffered, keel::compaction::by_hand>>(folder, how);
}

/// The same with tables that are read from the mapped files.
[[nodiscard]] inline std::unique_ptr<store> open_keel_mapped(std::string const& folder, mode how) {
    using access = keel::table_access::mapped;
    return std::make_unique<keel_store<keel::durability::os_buffered, keel::compaction::leveled<>, access>>(folder,
                                                                                                            how);
}

/// Segments are as long before anything is written to them: what counts is the frames.
[[nodiscard]] inline std::uint64_t keel_log_bytes(std::string const&, std::uint64_t records) {
    return records * keel::format::frame_bytes(16 + values::bytes);
}

/// A byte of every block of every segment's index and filter, and of the notes, without which no index of what was not sealed is believed.
inline void damage_keel_indexes(std::string const& folder) {
    namespace format = keel::format;
    auto const flip = [](std::fstream& file, std::uint64_t at) {
        file.seekg(static_cast<std::streamoff>(at));
        auto const byte = static_cast<char>(file.get() ^ 0x10);
        file.seekp(static_cast<std::streamoff>(at));
        file.put(byte);
    };
    constexpr auto both = std::ios::in | std::ios::out | std::ios::binary;
    std::size_t damaged = 0;
    for (auto const& entry : std::filesystem::directory_iterator{std::filesystem::path{folder} / "log"}) {
        if (entry.path().extension() != ".seg") continue;
        std::fstream file{entry.path(), both};
        format::header_block block{};
        file.seekg(static_cast<std::streamoff>(format::footer_offset(entry.file_size())));
        file.read(reinterpret_cast<char*>(block.data()), static_cast<std::streamsize>(block.size()));
        auto const read = format::decode_segment_footer<keel::checksum::crc32c>(block);
        for (std::size_t i = 0; read.good && i < read.footer.section_count; ++i) {
            auto const& section = read.footer.sections[i];
            for (std::uint64_t at = 0; at < section.length; at += 4 * keel::KiB, ++damaged)
                flip(file, section.offset + at + 100);
        }
    }
    if (damaged == 0) throw std::runtime_error{"no segment has an index"};
    std::fstream notes{std::filesystem::path{folder} / "notes", both};
    for (std::uint64_t at = 0; at < 4 * keel::KiB; at += 64) flip(notes, at);
}

[[nodiscard]] inline std::uint64_t files_ending_in(std::string const& folder, std::string_view suffix) {
    std::uint64_t bytes = 0;
    for (auto const& entry : std::filesystem::directory_iterator{folder})
        if (entry.path().string().ends_with(suffix)) bytes += entry.file_size();
    return bytes;
}

/// A walk with the iterator that LevelDB and RocksDB have in common.
template <class Iterator>
[[nodiscard]] std::uint64_t count_from_here(Iterator& at,
                                            std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) {
    std::uint64_t count = 0;
    std::size_t bytes = 0;
    for (; count < most && at.Valid(); at.Next(), ++count) bytes += at.key().size() + at.value().size();
    if (bytes == 0 || !at.status().ok()) throw std::runtime_error{"the scan failed"};
    return count;
}

#if defined(KEEL_BENCH_LEVELDB)
class leveldb_store final : public store {
public:
    leveldb_store(std::string const& folder, mode how) {
        leveldb::Options options;
        options.create_if_missing = true;
        options.compression = leveldb::kNoCompression;
        static auto const* const bloom = leveldb::NewBloomFilterPolicy(10); // for the life of the process
        options.filter_policy = bloom;
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
    void put_batch(std::span<record const> all) override {
        leveldb::WriteBatch batch;
        for (auto const& [key, value] : all) batch.Put(slice(key), slice(value));
        check(db_->Write(write_, &batch));
    }
    [[nodiscard]] std::size_t hold_all(std::span<std::string_view const> keys) override {
        std::size_t found = 0;
        std::string value;
        for (auto const key : keys) found += db_->Get({}, slice(key), &value).ok();
        return found;
    }
    [[nodiscard]] std::uint64_t scan() override {
        std::unique_ptr<leveldb::Iterator> const at{db_->NewIterator({})};
        at->SeekToFirst();
        return count_from_here(*at);
    }
    [[nodiscard]] std::uint64_t scan_from(std::string_view key, std::uint64_t most) override {
        std::unique_ptr<leveldb::Iterator> const at{db_->NewIterator({})};
        at->Seek(slice(key));
        return count_from_here(*at, most);
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
        rocksdb::BlockBasedTableOptions tables;
        tables.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
        tables.block_cache = rocksdb::NewLRUCache(512 << 20);
        options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(tables));
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
    void put_batch(std::span<record const> all) override {
        rocksdb::WriteBatch batch;
        for (auto const& [key, value] : all) check(batch.Put(slice(key), slice(value)));
        check(db_->Write(write_, &batch));
    }
    [[nodiscard]] std::size_t hold_all(std::span<std::string_view const> keys) override {
        slices_.clear();
        for (auto const key : keys) slices_.push_back(slice(key));
        pinned_.resize(keys.size());
        done_.resize(keys.size());
        db_->MultiGet({}, db_->DefaultColumnFamily(), keys.size(), slices_.data(), pinned_.data(), done_.data());
        std::size_t found = 0;
        for (auto const& one : done_) found += one.ok();
        for (auto& one : pinned_) one.Reset();
        return found;
    }
    [[nodiscard]] std::uint64_t scan() override {
        std::unique_ptr<rocksdb::Iterator> const at{db_->NewIterator({})};
        at->SeekToFirst();
        return count_from_here(*at);
    }
    [[nodiscard]] std::uint64_t scan_from(std::string_view key, std::uint64_t most) override {
        std::unique_ptr<rocksdb::Iterator> const at{db_->NewIterator({})};
        at->Seek(slice(key));
        return count_from_here(*at, most);
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
    std::vector<rocksdb::Slice> slices_{}; ///< of one hold_all(), like the next two
    std::vector<rocksdb::PinnableSlice> pinned_{};
    std::vector<rocksdb::Status> done_{};
};
#endif

#if defined(KEEL_BENCH_LMDB)
/// A transaction per put. Unsynced it is NOSYNC, which a power loss may corrupt; with a writable map it stores instead of writing.
class lmdb_store final : public store {
public:
    lmdb_store(std::string const& folder, mode how, unsigned more) {
        std::filesystem::create_directories(folder);
        check(mdb_env_create(&env_));
        check(mdb_env_set_mapsize(env_, std::size_t{8} << 30));
        check(mdb_env_open(env_, folder.c_str(), more | MDB_NOTLS | (how == mode::synced ? 0U : unsigned{MDB_NOSYNC}),
                           0644));
        MDB_txn* txn = nullptr;
        check(mdb_txn_begin(env_, nullptr, 0, &txn));
        check(mdb_dbi_open(txn, nullptr, 0, &dbi_));
        check(mdb_txn_commit(txn));
        begin_reading();
    }
    /// Of another one's store.
    lmdb_store(MDB_env* env, MDB_dbi dbi) : env_{env}, owned_{false}, dbi_{dbi} { begin_reading(); }
    ~lmdb_store() override {
        mdb_txn_abort(reader_);
        if (owned_) mdb_env_close(env_);
    }
    [[nodiscard]] std::unique_ptr<store> for_another_thread() override {
        return std::make_unique<lmdb_store>(env_, dbi_);
    }
    void put(std::string_view key, std::string_view value) override {
        record const one{key, value};
        put_batch({&one, 1});
    }
    void put_batch(std::span<record const> all) override {
        MDB_txn* txn = nullptr;
        check(mdb_txn_begin(env_, nullptr, 0, &txn));
        for (auto const& [key, value] : all) {
            auto k = item(key);
            auto v = item(value);
            check(mdb_put(txn, dbi_, &k, &v, 0));
        }
        check(mdb_txn_commit(txn));
    }
    bool holds(std::string_view key, std::string_view value) override {
        check(mdb_txn_renew(reader_));
        auto k = item(key);
        MDB_val v{};
        bool const found = mdb_get(reader_, dbi_, &k, &v) == 0;
        bool const same = found && std::string_view{static_cast<char const*>(v.mv_data), v.mv_size} == value;
        mdb_txn_reset(reader_);
        return same;
    }
    [[nodiscard]] std::size_t hold_all(std::span<std::string_view const> keys) override {
        check(mdb_txn_renew(reader_));
        std::size_t found = 0;
        for (auto const key : keys) {
            auto k = item(key);
            MDB_val v{};
            found += mdb_get(reader_, dbi_, &k, &v) == 0;
        }
        mdb_txn_reset(reader_);
        return found;
    }
    [[nodiscard]] std::uint64_t scan() override {
        MDB_val first{};
        return walk(first, MDB_FIRST, std::numeric_limits<std::uint64_t>::max());
    }
    [[nodiscard]] std::uint64_t scan_from(std::string_view key, std::uint64_t most) override {
        return walk(item(key), MDB_SET_RANGE, most);
    }
    [[nodiscard]] static std::unique_ptr<store> open(std::string const& folder, mode how) {
        return std::make_unique<lmdb_store>(folder, how, 0);
    }
    [[nodiscard]] static std::unique_ptr<store> open_writable_map(std::string const& folder, mode how) {
        return std::make_unique<lmdb_store>(folder, how, unsigned{MDB_WRITEMAP});
    }

private:
    void begin_reading() {
        check(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader_));
        mdb_txn_reset(reader_);
    }
    static void check(int code) {
        if (code != 0) throw std::runtime_error{std::string{"lmdb: "} + mdb_strerror(code)};
    }
    static MDB_val item(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
    std::uint64_t walk(MDB_val k, MDB_cursor_op to_first, std::uint64_t most) {
        check(mdb_txn_renew(reader_));
        MDB_cursor* at = nullptr;
        check(mdb_cursor_open(reader_, dbi_, &at));
        MDB_val v{};
        std::uint64_t count = 0;
        std::size_t bytes = 0;
        for (auto move = to_first; count < most && mdb_cursor_get(at, &k, &v, move) == 0; move = MDB_NEXT, ++count)
            bytes += k.mv_size + v.mv_size;
        mdb_cursor_close(at);
        mdb_txn_reset(reader_);
        if (bytes == 0) throw std::runtime_error{"an empty store"};
        return count;
    }
    MDB_env* env_ = nullptr;
    bool owned_ = true;
    MDB_dbi dbi_ = 0;
    MDB_txn* reader_ = nullptr;
};
#endif

#if defined(KEEL_BENCH_SQLITE)
/// A table without row ids in WAL mode; writers behind one mutex, because its own waiting sleeps.
class sqlite_store final : public store {
public:
    sqlite_store(std::string const& folder, mode how) : folder_{folder} {
        std::filesystem::create_directories(folder);
        check(sqlite3_open((folder + "/db").c_str(), &db_));
        run("PRAGMA journal_mode=WAL");
        run(how == mode::synced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
        run("PRAGMA cache_size=-524288");
        if (how == mode::all_in_log) run("PRAGMA wal_autocheckpoint=0");
        run("CREATE TABLE IF NOT EXISTS t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
        prepare("INSERT OR REPLACE INTO t VALUES(?,?)", put_);
        prepare("SELECT v FROM t WHERE k=?", get_);
        prepare("SELECT k, v FROM t ORDER BY k", scan_);
        prepare("SELECT k, v FROM t WHERE k>=? ORDER BY k LIMIT ?", scan_from_);
    }
    ~sqlite_store() override {
        for (auto* s : {put_, get_, scan_, scan_from_}) sqlite3_finalize(s);
        sqlite3_close(db_);
    }
    void put(std::string_view key, std::string_view value) override {
        std::lock_guard const hold{m_};
        insert(key, value);
    }
    void put_batch(std::span<record const> all) override {
        std::lock_guard const hold{m_};
        run("BEGIN");
        for (auto const& [key, value] : all) insert(key, value);
        run("COMMIT");
    }
    bool holds(std::string_view key, std::string_view value) override {
        std::lock_guard const hold{m_};
        bind(get_, 1, key);
        bool const found = sqlite3_step(get_) == SQLITE_ROW && column(get_, 0) == value;
        check(sqlite3_reset(get_));
        return found;
    }
    [[nodiscard]] std::size_t hold_all(std::span<std::string_view const> keys) override {
        std::lock_guard const hold{m_};
        std::size_t found = 0;
        for (auto const key : keys) {
            bind(get_, 1, key);
            found += sqlite3_step(get_) == SQLITE_ROW;
            check(sqlite3_reset(get_));
        }
        return found;
    }
    [[nodiscard]] std::uint64_t scan() override {
        std::lock_guard const hold{m_};
        return walk(scan_);
    }
    [[nodiscard]] std::uint64_t scan_from(std::string_view key, std::uint64_t most) override {
        std::lock_guard const hold{m_};
        bind(scan_from_, 1, key);
        check(sqlite3_bind_int64(scan_from_, 2, static_cast<std::int64_t>(most)));
        return walk(scan_from_);
    }
    /// A connection of its own reads beside the one that writes.
    [[nodiscard]] std::unique_ptr<store> for_another_thread() override {
        return std::make_unique<sqlite_store>(folder_, mode::unsynced);
    }
    [[nodiscard]] static std::unique_ptr<store> open(std::string const& folder, mode how) {
        return std::make_unique<sqlite_store>(folder, how);
    }
    [[nodiscard]] static std::uint64_t log_bytes(std::string const& folder, std::uint64_t) {
        return files_ending_in(folder, "-wal");
    }

private:
    void check(int code) const {
        if (code != SQLITE_OK) throw std::runtime_error{std::string{"sqlite: "} + sqlite3_errmsg(db_)};
    }
    void run(char const* sql) { check(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr)); }
    void prepare(char const* sql, sqlite3_stmt*& to) { check(sqlite3_prepare_v2(db_, sql, -1, &to, nullptr)); }
    void bind(sqlite3_stmt* to, int at, std::string_view text) {
        check(sqlite3_bind_blob(to, at, text.data(), static_cast<int>(text.size()), nullptr));
    }
    void insert(std::string_view key, std::string_view value) {
        bind(put_, 1, key);
        bind(put_, 2, value);
        if (sqlite3_step(put_) != SQLITE_DONE) throw std::runtime_error{sqlite3_errmsg(db_)};
        check(sqlite3_reset(put_));
    }
    [[nodiscard]] static std::string_view column(sqlite3_stmt* of, int at) {
        return {static_cast<char const*>(sqlite3_column_blob(of, at)),
                static_cast<std::size_t>(sqlite3_column_bytes(of, at))};
    }
    std::uint64_t walk(sqlite3_stmt* over) {
        std::uint64_t count = 0;
        std::size_t bytes = 0;
        for (; sqlite3_step(over) == SQLITE_ROW; ++count) bytes += column(over, 0).size() + column(over, 1).size();
        check(sqlite3_reset(over));
        if (bytes == 0) throw std::runtime_error{"an empty store"};
        return count;
    }
    std::string folder_;
    std::mutex m_;
    sqlite3* db_ = nullptr;
    sqlite3_stmt* put_ = nullptr;
    sqlite3_stmt* get_ = nullptr;
    sqlite3_stmt* scan_ = nullptr;
    sqlite3_stmt* scan_from_ = nullptr;
};
#endif

} // namespace detail

/// Those that this build knows.
[[nodiscard]] inline std::vector<peer> all_peers() {
    std::vector<peer> out{
        {.name = "keel",
         .open = detail::open_keel_engine,
         .log_bytes = detail::keel_log_bytes,
         .open_writes = false,
         .damage_indexes = detail::damage_keel_indexes},
        {"keel_mapped_tables", detail::open_keel_mapped, detail::keel_log_bytes, false, true},
        {"keel_log", detail::open_keel<detail::keel_log_store>, detail::keel_log_bytes, false},
    };
#if defined(KEEL_BENCH_LEVELDB)
    // More than its largest write buffer holds goes into tables.
    out.push_back({"leveldb", detail::leveldb_store::open, detail::leveldb_store::log_bytes, true, false, 2 << 20});
#endif
#if defined(KEEL_BENCH_ROCKSDB)
    out.push_back({"rocksdb", detail::rocksdb_store::open, detail::rocksdb_store::log_bytes});
#endif
#if defined(KEEL_BENCH_LMDB)
    auto const no_log = [](std::string const&, std::uint64_t) { return std::uint64_t{0}; };
    out.push_back({"lmdb", detail::lmdb_store::open, no_log});
    out.push_back({"lmdb_writemap", detail::lmdb_store::open_writable_map, no_log});
#endif
#if defined(KEEL_BENCH_SQLITE)
    // Whole pages: 7 KB of log for each record, and each round needs a copy.
    out.push_back({"sqlite", detail::sqlite_store::open, detail::sqlite_store::log_bytes, true, false, 512 << 10});
#endif
    return out;
}

} // namespace bench

#endif
