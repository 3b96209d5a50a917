// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_FIRST_ACTIVATION_HPP
#define KEEL_WAL_FIRST_ACTIVATION_HPP

// The work that the first write after opening does before it writes. It makes durable all records that recovery found and that count. Then
// it activates a segment. Opening itself writes nothing, so the effects of a crash end here. Every later activation after a sealed segment
// goes through this class as well.
//
// A step is marked as done only after it has succeeded. So if a write fails here, the next write continues with the remaining steps.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/activation.hpp>
#include <keel/wal/fail_over.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/write_state.hpp>
#include <keel/wal/writer_start.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

template <class State>
class first_activation {
public:
    using segment_type = typename State::segment_type;
    using C = typename State::C;
    using leader = typename State::leader;

    first_activation(State& s, fail_over<State>& over, writer_start& start) noexcept
        : s_{s}, fail_over_{over}, start_{start} {}

    /// Makes the log ready to take records. `wanted`: the room that the segment must have. Before a record behind the old end of the log is
    /// acknowledged, all records up to the old end are proven durable. Errors: those of the machine; writing has stopped. Throws
    /// std::bad_alloc; the next write tries again.
    result<void> run(leader& lead, segment_demand const& wanted) {
        KEEL_TRY(stop_unless(sync_unproven(), "the log's old end could not be synced: "));
        KEEL_TRY(stop_unless(adopt_files(), "the manifest could not be written: "));
        if (!start_.tails.empty()) {
            auto end = start_.previous_proven;
            auto parts = read_tails(end);
            KEEL_TRY(stop_unless(parts, "the log's old end could not be read again: "));
            if (!parts->empty())
                return stop_unless(rewrite_tails(lead, *parts, end), "the log's old end could not be written again: ");
            start_.tails.clear();
        }
        s_.durable = std::max(s_.durable, start_.last);
        return activate(lead, wanted);
    }
    /// Notes that the active segment takes no more records. `link`: the link that the next header stores for it.
    void ended(format::segment_link const& link) noexcept {
        start_.previous = link;
        start_.voids_needed = false;
    }

private:
    template <class Result>
    result<void> stop_unless(Result const& done, char const* what) {
        if (done) return {};
        s_.health.stop_writing(what, done.error());
        return failure(done.error());
    }

    result<void> sync_unproven() {
        while (!start_.unsynced.empty()) {
            KEEL_TRY(sync_old(start_.unsynced.back()));
            start_.unsynced.pop_back();
        }
        return {};
    }
    result<void> adopt_files() {
        if (adopted_) return {};
        KEEL_TRY(s_.pool.adopt(start_.spares, start_.retired, s_.next));
        adopted_ = true;
        return {};
    }
    result<void> sync_old(std::string const& path) {
        KEEL_TRY_LET(file, s_.pool.fs().open(path, io::access::read_write, io::creation::must_exist));
        return file.sync();
    }

    /// Reads the tails, in LSN order. `end`: if the newest segment has a tail, it is set to the end of that segment's proven bytes. If a
    /// fresh segment has no room for all tails, the result is empty and their files are synced instead. Nothing more can be done then.
    result<std::vector<old_frames>> read_tails(std::uint64_t& end) {
        struct found_batch {
            std::size_t tail;
            placed_batch what;
        };
        std::vector<frame_group> files;
        std::vector<found_batch> all;
        std::uint64_t bytes = 0;
        for (auto const& tail : start_.tails) {
            KEEL_TRY_LET(file, s_.pool.fs().open(tail.path, io::access::read_only, io::creation::must_exist));
            auto& in = files.emplace_back();
            in.reset(tail.begin);
            in.bytes.resize(static_cast<std::size_t>(tail.end - tail.begin));
            KEEL_TRY_LET(got, file.read(tail.begin, in.bytes));
            in.bytes.resize(got);
            find_batches<C>(in, tail.salt, tail.first);
            bool const newest = tail.id == start_.previous.id;
            if (newest) end = tail.begin;
            for (auto const& b : in.batches) {
                if (newest && b.range.last <= tail.proven) end = b.end;
                auto const holds = [&](lsn_range const& r) { return r.contains(b.range.first); };
                bool const counts = std::ranges::any_of(tail.counted, holds);
                if (!counts || b.range.last <= s_.durable || b.range.last >= s_.next) continue;
                all.push_back({files.size() - 1, b});
                bytes += b.end - b.begin;
            }
        }
        if (bytes > segment_type::batch_bytes_max) {
            for (auto const& tail : start_.tails) KEEL_TRY(sync_old(tail.path));
            return std::vector<old_frames>{};
        }
        std::ranges::sort(all, {}, [](found_batch const& f) { return f.what.range.first; });
        std::vector<old_frames> out;
        for (auto const& [n, b] : all) {
            auto const& tail = start_.tails[n];
            if (out.empty() || out.back().id != tail.id)
                out.push_back({.id = tail.id, .first = tail.first, .frames = {}});
            append_batch(out.back().frames, files[n], b);
        }
        return out;
    }
    /// Writes the unproven records to the fresh segment under the same LSNs. They are durable there before any other record. `end`: the end
    /// of the proven bytes in the newest old segment.
    result<void> rewrite_tails(leader& lead, std::vector<old_frames> const& parts, std::uint64_t end) {
        auto link = start_.previous;
        link.last = parts.front().frames.batches.front().range.first.before();
        link.end = end; // frames behind it are not proven durable
        link.aggregate = 0;
        link.ended = format::segment_end::abandoned;
        auto done = fail_over_.rewrite(lead, link, parts, s_.next, s_.next);
        if (done) start_.tails.clear();
        return done;
    }
    result<void> activate(leader& lead, segment_demand const& wanted) {
        auto const void_from = start_.voids_needed ? s_.next : lsn{};
        auto next = activation<State>::prepare(s_, lead, start_.previous, s_.next, void_from, wanted,
                                               s_.only_erases ? space_policy::reserved : space_policy::ordinary);
        KEEL_TRY(stop_unless(next, "no segment could be made ready: "));
        KEEL_TRY(stop_unless(next->write(lead, false), "no segment could be made ready: "));
        next->install(lead, false);
        return {};
    }

    State& s_;
    fail_over<State>& fail_over_;
    writer_start& start_;
    bool adopted_ = false;
};

} // namespace keel::inline v0::wal

#endif
