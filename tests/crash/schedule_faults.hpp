// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_FAULTS_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_FAULTS_HPP

// Makes the planned troubles of one run happen, and works out from those that really hit what may be lost and what may fail.

#include "../support/refused_memory.hpp"
#include "../support/turns.hpp"
#include "schedule_judge.hpp"
#include "schedule_programs.hpp"

#include <keel/format/segment_header.hpp>
#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/io/schedule.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schedules {

using disk_type = keel::io::memory;
using faulty_disk = keel::io::faulty<disk_type>;
using scheduled_disk = keel::io::scheduled<faulty_disk>;
namespace turns = keel::test::turns;
namespace refused_memory = keel::test::refused_memory;

inline constexpr std::uint64_t run_segment_bytes = 4 * keel::KiB;
inline constexpr std::uint64_t run_frames_begin = keel::format::frames_begin(run_segment_bytes);

class fault_driver {
public:
    fault_driver(faulty_disk disk, std::vector<planned_trouble> plan, writes& all, bool has_prologue, bool tells)
        : disk_{std::move(disk)}, plan_{std::move(plan)}, all_{all}, has_prologue_{has_prologue}, tells_{tells} {}

    /// Allocations and threads are refused from here on, as planned.
    void begin() const {
        refused_memory::plan(0, 0);
        refused_memory::tell(tells_);
        for (auto const& t : plan_) {
            if (t.what == trouble::no_memory) refused_memory::plan(t.at, t.count);
            if (t.what == trouble::no_thread) turns::refuse_threads(t.at, t.count);
        }
    }
    /// Everything works from here on.
    void end() {
        note_refusals();
        refused_memory::no_plan();
        turns::refuse_threads(0, 0);
        over_ = true;
        harvest();
    }
    [[nodiscard]] bool over() const noexcept { return over_; }

    /// Before call number `made` is made: what is wrong with its being made at all; empty where nothing is.
    [[nodiscard]] std::string before_call(turns::step const& s, std::uint64_t made) {
        harvest();
        auto trouble_there = abandoned_stays_so(s);
        caller_ = s.thread;
        if (s.what.path.ends_with("/readers")) preparing_ = s.what.call == keel::io::io_call::lock;
        if (over_ || s.what.call == keel::io::io_call::unlock || s.what.call == keel::io::io_call::boot)
            return trouble_there;
        for (auto const& t : plan_) {
            if (!is_of_disk(t.what) || !t.hits(made)) continue;
            disk_.set_plan({{{.kind = kind_of(t.what), .at = 1, .count = 1, .seed = t.at}}});
            armed_ = true;
        }
        return trouble_there;
    }
    /// Which faults have hit since the last call, and what they put at risk.
    void harvest() {
        if (!armed_) return;
        for (auto const& f : disk_.log()) note(f);
        armed_ = false;
        disk_.set_plan({});
    }
    void note_refusals() noexcept {
        refused_ = std::max({refused_, refused_memory::refused() + turns::refused_threads()});
    }

    [[nodiscard]] std::uint64_t fired() noexcept {
        note_refusals();
        return fired_ + refused_;
    }
    /// All that hit was a full disk.
    [[nodiscard]] bool only_space() const noexcept { return only_space_ && refused_ == 0; }
    /// It was one failed write, store or sync of a segment in use: nobody may notice.
    [[nodiscard]] bool survivable() const noexcept { return survivable_ && refused_ == 0; }
    [[nodiscard]] bool header_torn() const noexcept { return header_torn_; }
    [[nodiscard]] bool read_failed() const noexcept { return read_failed_; }
    [[nodiscard]] bool refused() noexcept {
        note_refusals();
        return refused_ != 0;
    }

private:
    struct abandoned_segment {
        std::string path{};
        std::optional<std::uint64_t> store_at{}; ///< the offset of the store that failed
        std::uint32_t thread = 0;                ///< saw it fail
        std::uint64_t since = 0;                 ///< the first place behind that; 0: that thread has not gone on
    };
    /// A store into a mapping ends in a signal that does not say why: the same bytes are written to the same place, which does. No other
    /// write of the file follows, and no sync.
    [[nodiscard]] static bool asks_why(abandoned_segment const& a, turns::step const& s) noexcept {
        auto const stored = a.store_at && (*a.store_at == s.what.offset || *a.store_at + 4 == s.what.offset);
        return stored && a.thread == s.thread && s.what.call == keel::io::io_call::write;
    }

    void note(keel::io::fired_fault const& f) {
        using c = keel::io::fault_class;
        if (tells_) std::printf("      %s\n", keel::io::to_string(f).c_str());
        ++fired_;
        only_space_ = only_space_ && f.kind == keel::io::fault_kind::no_space;
        bool const of_segment = f.path.ends_with(".seg");
        bool const of_frames = of_segment && !preparing_ &&
                               (f.on == c::store || f.on == c::sync ||
                                (f.on == c::write && f.offset >= run_frames_begin &&
                                 f.offset < keel::format::second_header_offset(run_segment_bytes)));
        // A segment's first frame is part of beginning it.
        bool const first_frame = f.offset == run_frames_begin || f.offset == run_frames_begin + 4;
        survivable_ = of_frames && !first_frame && fired_ == 1 && has_prologue_ &&
                      f.kind != keel::io::fault_kind::no_space;
        if (of_frames)
            abandoned_.push_back({.path = f.path,
                                  .store_at = f.on == c::store ? std::optional{f.offset} : std::nullopt,
                                  .thread = caller_});
        header_torn_ = header_torn_ || (of_segment && f.kind == keel::io::fault_kind::short_write);
        read_failed_ = read_failed_ || f.on == c::read;
        for (auto& w : all_) {
            if (w.durable || !(w.counts() || w.now == standing::under_way)) continue;
            w.at_risk = w.at_risk || (of_segment && f.kind == keel::io::fault_kind::fail_sync);
            w.read_back_failed = w.read_back_failed || (of_segment && f.on == c::read);
        }
    }
    /// A segment whose write or sync failed is given up once who saw that goes on: it is never written or synced again, but by calls that
    /// were under way.
    [[nodiscard]] std::string abandoned_stays_so(turns::step const& s) {
        using c = keel::io::io_call;
        for (auto& a : abandoned_)
            if (a.since == 0 && a.thread == s.thread) a.since = newest_place_ + 1;
        newest_place_ = std::max(newest_place_, s.number);
        bool const changes = s.what.call == c::write || s.what.call == c::store || s.what.call == c::publish ||
                             s.what.call == c::sync || s.what.call == c::mapping_sync;
        if (!changes || over_) return {};
        if (preparing_) std::erase_if(abandoned_, [&](auto const& a) { return a.path == s.what.path; }); // a new life
        for (auto const& a : abandoned_)
            if (a.path == s.what.path && a.since != 0 && !asks_why(a, s) && s.number >= a.since)
                return "a segment is written to again after a write or sync of it failed: " + a.path;
        return {};
    }

    faulty_disk disk_;
    std::vector<planned_trouble> plan_;
    writes& all_;
    bool has_prologue_;
    bool tells_;
    bool over_ = false;
    bool armed_ = false;     ///< with a fault for the call at hand
    bool preparing_ = false; ///< a segment is made: `readers` is held
    bool only_space_ = true;
    bool survivable_ = false;
    bool header_torn_ = false; ///< a write of one stopped half-way
    bool read_failed_ = false; ///< what cannot be read, tried twice, counts as damage
    std::uint64_t fired_ = 0;
    std::uint64_t refused_ = 0;
    std::vector<abandoned_segment> abandoned_{};
    std::uint64_t newest_place_ = 0;
    std::uint32_t caller_ = 0; ///< the thread of the last call
};

} // namespace schedules

#endif
