// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_FIRST_ACTIVATION_HPP
#define KEEL_WAL_FIRST_ACTIVATION_HPP

// What the first write after opening does before it: everything that recovery found and that counts is made durable, then a segment is
// activated. Opening itself writes nothing, so this is where a crash ends. It also activates the segment after one that was sealed, where
// a roll-over could not.
//
// Each step is taken note of only after it has succeeded, so a write that fails here leaves the rest to the next one.

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

    /// Makes the log ready to take records. `wanted`: what the segment must have room for. Nothing behind the log's old end is acknowledged
    /// before all of that is proven durable. Errors: the machine's; writing has stopped. Throws std::bad_alloc: the next write tries again.
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
    /// The segment that was active takes no more, and `link` is what the next one says of it.
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

    /// In LSN order; `end` is moved to where the newest segment's proven bytes end, if it is one of them. Where a fresh segment has no
    /// room for all of them there are none: then the files they are in are synced, which is all that can be done.
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
    /// The unproven records go to the fresh segment first, under their LSNs, and are durable there before anything else is.
    /// `end`: of the newest of the old segments.
    result<void> rewrite_tails(leader& lead, std::vector<old_frames> const& parts, std::uint64_t end) {
        auto link = start_.previous;
        link.last = parts.front().frames.batches.front().range.first.before();
        link.end = end; // nothing says that what lies behind it will stay
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
