// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_LEVELS_HPP
#define KEEL_ENGINE_LEVELS_HPP

// Where an engine's records are: in memory for the segment being written, in the sealed segments themselves for all before. The log
// tells of every step (wal::record_sink): records as they become visible, a segment that begins, one that is sealed and from then on
// served from where it lies.
//
// Thread rules: the log's leader changes, one thread at a time; any number read, each through a view() that stays what it is while it
// is held. A reader asks for the log's visible LSN first and for the view then: the view has all records up to that LSN.

#include <keel/detail/published.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/table/block_cache.hpp>
#include <keel/table/log_run.hpp>
#include <keel/table/memtable.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The parts of a store as one reader sees them.
template <class Config>
struct level_view {
    using run = table::log_run<typename Config::checksum, typename Config::file_system>;

    std::vector<std::shared_ptr<table::memtable const>> memory{}; ///< in the order they were begun
    std::vector<std::shared_ptr<run const>> runs{};               ///< by their newest LSN, the largest first

    /// The newest version of a key that is not newer than `snapshot`.
    struct found {
        lsn at{};
        std::optional<std::string> value{}; ///< nothing: erased
    };
    [[nodiscard]] result<std::optional<found>> find(std::string_view key, lsn snapshot) const {
        std::optional<table::version> best;
        for (auto const& m : memory)
            if (auto const v = m->find(key, snapshot); v && (!best || v->at > best->at)) best = v;
        auto const hash = format::filter_hash(key);
        typename run::record kept;
        typename run::record next;
        for (auto const& r : runs) {
            if (best && r->newest() <= best->at) break; // nothing newer is further down
            KEEL_TRY_LET(there, r->find(key, hash, snapshot, next));
            if (!there || (best && next.what.at <= best->at)) continue;
            std::swap(kept, next);
            best = kept.what;
        }
        if (!best) return std::optional<found>{};
        found out{.at = best->at};
        if (!best->tombstone) out.value.emplace(best->value);
        return std::optional<found>{std::move(out)};
    }

    /// The LSN of a version of `key` behind `since`; 0 where there is none.
    [[nodiscard]] result<lsn> newer(std::string_view key, lsn since) const {
        for (auto const& m : memory)
            if (auto const v = m->find(key, lsn_max); v && v->at > since) return v->at;
        auto const hash = format::filter_hash(key);
        typename run::record there;
        for (auto const& r : runs) {
            if (r->newest() <= since) break;
            KEEL_TRY_LET(any, r->find(key, hash, lsn_max, there));
            if (any && there.what.at > since) return there.what.at;
        }
        return lsn{};
    }
    /// The LSN of some version behind `since` of a key from `from` on and in front of `to`; 0 where there is none. Takes time in
    /// proportion to what was written in the range since then, and to what the same segments hold of it.
    [[nodiscard]] result<lsn> newer_in(std::optional<std::string> const& from, std::optional<std::string> const& to,
                                       lsn since) const {
        auto const walk = [&](auto& at) {
            for (at.seek(from ? std::string_view{*from} : std::string_view{}); at.valid(); at.next()) {
                auto const v = at.current();
                if (to && v.key >= *to) break;
                if (v.at > since) return v.at;
            }
            return lsn{};
        };
        for (auto const& m : memory) {
            table::memtable::cursor at{*m};
            if (auto const any = walk(at)) return any;
        }
        for (auto const& r : runs) {
            if (r->newest() <= since) break;
            typename run::cursor at{r};
            if (auto const any = walk(at)) return any;
            if (at.trouble()) return failure(*at.trouble());
        }
        return lsn{};
    }
};

template <class Config>
class levels {
public:
    using view_type = level_view<Config>;
    using run = typename view_type::run;

    using fs_type = typename Config::file_system;

    explicit levels(fs_type fs) : fs_{std::move(fs)}, now_{std::make_shared<view_type const>()} {}

    [[nodiscard]] std::shared_ptr<view_type const> view() const { return now_.get(); }

    /// What opening found. Before anybody reads or writes. `scanned` belongs to the segments that have no index on the disk.
    void mount(std::vector<std::pair<wal::closed_segment, std::shared_ptr<wal::sorted_index const>>> parts) {
        view_type next;
        for (auto& [segment, scanned] : parts) next.runs.push_back(serve(std::move(segment), std::move(scanned)));
        publish(std::move(next));
    }

    // ---- wal::record_sink ---------------------------------------------------------------------------------------------------

    void begin(segment_id segment) {
        auto next = *view();
        // Begun, and given up before it took a record.
        std::erase_if(next.memory, [](auto const& m) { return m->empty(); });
        writing_ = std::make_shared<table::memtable>(segment);
        next.memory.push_back(writing_);
        publish(std::move(next));
    }
    void apply(lsn at, format::frame_view const& frame) { writing_->apply(at, frame); }

    /// The segment is served from where it lies from here on, if it has an index: else from memory, as before.
    void sealed(wal::closed_segment segment) {
        if (!segment.index) return;
        auto next = *view();
        std::erase_if(next.memory, [&](auto const& m) { return m->segment() == segment.id; });
        next.runs.push_back(serve(std::move(segment), nullptr));
        publish(std::move(next));
    }
    /// The records of `old` behind `last` were written anew and are in the segment begun last.
    void moved(segment_id old, lsn last) {
        auto next = *view();
        for (auto& r : next.runs)
            if (r->source().id == old) r = r->up_to(last);
        publish(std::move(next));
    }

    // ---- damage found while reading -----------------------------------------------------------------------------------------

    /// Findings since the last call. Cheap where there are none.
    [[nodiscard]] std::vector<finding> take_findings() const {
        if (!damage_->any.load(std::memory_order_acquire)) return {};
        std::lock_guard const hold{damage_->m};
        damage_->any.store(false, std::memory_order_relaxed);
        return std::exchange(damage_->found, {});
    }

private:
    static constexpr std::size_t cache_bytes = 32 * MiB;
    static constexpr std::size_t findings_max = 1000;

    struct noted_damage {
        std::mutex m;
        std::vector<finding> found{};
        std::atomic<bool> any{false}; // release: who sees it finds the findings under m
    };

    [[nodiscard]] std::shared_ptr<run const> serve(wal::closed_segment segment,
                                                   std::shared_ptr<wal::sorted_index const> scanned) const {
        return std::make_shared<run const>(fs_, std::move(segment), std::move(scanned), cache_, listener_);
    }
    void publish(view_type next) {
        std::ranges::sort(next.runs, std::ranges::greater{}, [](auto const& r) {
            return std::pair{r->newest(), r->source().id};
        });
        now_.set(std::make_shared<view_type const>(std::move(next)));
    }

    fs_type fs_;
    std::shared_ptr<noted_damage> damage_{std::make_shared<noted_damage>()};
    std::shared_ptr<table::damage_listener const> listener_{
        std::make_shared<table::damage_listener const>([noted = damage_](finding what) {
            std::lock_guard const hold{noted->m};
            if (noted->found.size() < findings_max) noted->found.push_back(std::move(what));
            noted->any.store(true, std::memory_order_release);
        })};
    std::shared_ptr<table::block_cache> cache_{std::make_shared<table::block_cache>(cache_bytes)};
    std::shared_ptr<table::memtable> writing_{};
    published<view_type> now_;
};

} // namespace keel::inline v0::detail

#endif
