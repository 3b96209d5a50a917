// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_MERGE_OUTPUT_HPP
#define KEEL_ENGINE_MERGE_OUTPUT_HPP

// The output of a merge (engine/compactor.hpp) or an ingestion (engine/ingestion.hpp). Tables are written one after the other under
// temporary names and then get their final names. merge_pace bounds the rate of a merge.

#include <keel/detail/guarded.hpp>
#include <keel/engine/merge_damage.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/format/table.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/table/sstable_builder.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_pool.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// Gives out ids for tables. Any number of threads, after begin_at().
class table_ids {
public:
    void begin_at(std::uint64_t next) noexcept { next_.store(next, std::memory_order_release); }
    /// Whether begin_at() was called. If so, the work before that call is visible to this thread.
    [[nodiscard]] bool begun() const noexcept { return next_.load(std::memory_order_acquire) != 0; }
    [[nodiscard]] format::table_id take() noexcept {
        format::table_id id{next_.fetch_add(1, std::memory_order_relaxed)};
        while (static_cast<std::uint32_t>(id.value) == 0) id = {next_.fetch_add(1, std::memory_order_relaxed)};
        return id;
    }
    /// No id from here on was given out.
    [[nodiscard]] std::uint64_t next() const noexcept { return next_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> next_{0};
};

/// The tables of one merge. One thread per object.
template <class Config>
class merge_output {
public:
    using fs_type = typename Config::file_system;
    using pool_type = wal::segment_pool<typename Config::checksum, fs_type>;

    /// `first`: no record that will be added has a smaller LSN. `made` gets an entry for each table before its file is created, so that
    /// discard() finds all files. The references must outlive this object.
    merge_output(fs_type& fs, pool_type& pool, table_ids& ids, std::uint8_t level, lsn first,
                 std::vector<format::table_entry>& made)
        : fs_{fs}, pool_{pool}, ids_{ids}, level_{level}, first_{first}, made_{made} {}

    /// Adds a version. `new_key`: the version before had another key. A table ends only between two keys, so one table has all versions
    /// of a key.
    result<void> add(table::version const& v, bool new_key) {
        constexpr std::uint64_t room = format::table_bytes_max / 2;
        auto const size = v.key.size() + v.value.size();
        if (writer_ && new_key &&
            (writer_->bytes() >= Config::compaction::table_bytes || writer_->bytes() + size > room))
            KEEL_TRY(finish());
        if (!writer_) KEEL_TRY(begin());
        return writer_->add(v);
    }
    result<void> finish() {
        if (!writer_) return {};
        KEEL_TRY_LET(entry, writer_->finish());
        writer_.reset();
        entry.level = level_;
        made_.back() = std::move(entry);
        return {};
    }
    /// Writes a placeholder for keys that could not be read. Call it after finish().
    result<void> add_placeholder(unread_stretch const& what) {
        auto const birth = next_birth(format::ingested_lsn);
        made_.push_back({.id = birth.id});
        KEEL_TRY_LET(entry, (table::write_placeholder<typename Config::checksum>(
                                fs_, pool_.paths().table_temporary(birth.id), birth, what.range, what.filter)));
        made_.back() = std::move(entry);
        return {};
    }
    /// Gives all files their final names, and makes the names durable.
    result<void> name() {
        KEEL_TRY(pool_.check_identity());
        auto const& paths = pool_.paths();
        for (auto const& t : made_) KEEL_TRY(fs_.rename(paths.table_temporary(t.id), paths.table(t.id)));
        // Without this, a power loss can keep the manifest's entry for a table and lose the table's name.
        return made_.empty() ? result<void>{} : fs_.sync_directory(paths.tables());
    }
    /// Removes the files that were written; no manifest may name them. The first merge of the next opening removes the files that could not
    /// be removed now.
    void discard() noexcept {
        if_memory_lasts([this] {
            if (!pool_.check_identity()) return; // another store may have files with these names by now
            auto const& paths = pool_.paths();
            for (auto const& t : made_) {
                static_cast<void>(fs_.remove(paths.table_temporary(t.id)));
                static_cast<void>(fs_.remove(paths.table(t.id)));
            }
        });
    }
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        std::uint64_t sum = writer_ ? writer_->bytes() : 0;
        for (auto const& t : made_) sum += t.size;
        return sum;
    }

private:
    using writer_type = table::sstable_builder<typename Config::checksum, typename Config::compression, fs_type>;

    result<void> begin() {
        auto const birth = next_birth(first_);
        made_.push_back({.id = birth.id}); // before the file is created, so that discard() removes it after a failure
        KEEL_TRY_LET(writer, writer_type::create(fs_, pool_.paths().table_temporary(birth.id), birth));
        writer_.emplace(std::move(writer));
        return {};
    }
    [[nodiscard]] table::table_birth next_birth(lsn first) {
        auto const id = ids_.take();
        return {.store = pool_.store(),
                .id = id,
                .salt = format::salt_of(segment_id{id.value}, static_cast<std::uint32_t>(pool_.random())),
                .branch = pool_.branch(),
                .created_ns = pool_.now_ns(),
                .first = first};
    }

    fs_type& fs_;
    pool_type& pool_;
    table_ids& ids_;
    std::uint8_t level_;
    lsn first_;
    std::vector<format::table_entry>& made_;
    std::optional<writer_type> writer_{};
};

/// Limits the rate at which a merge writes.
class merge_pace {
public:
    /// 0: no limit.
    explicit merge_pace(std::uint64_t bytes_per_second) : rate_{bytes_per_second} {}
    /// Waits until `bytes`, the sum since the beginning, is within the rate, or until a stop is requested.
    void keep(std::uint64_t bytes, std::stop_token const& stop) const {
        if (rate_ == 0) return;
        auto const due = started_ + std::chrono::microseconds(bytes * 1'000'000 / rate_);
        std::mutex m;
        std::condition_variable_any cv;
        std::unique_lock hold{m};
        cv.wait_until(hold, stop, due, [] { return false; });
    }

private:
    std::uint64_t rate_;
    std::chrono::steady_clock::time_point started_{std::chrono::steady_clock::now()};
};

} // namespace keel::inline v0::detail

#endif
