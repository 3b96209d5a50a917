// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_RUN_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_RUN_HPP

// One run of a program (schedule_programs.hpp) under one schedule and some troubles, and what is looked at: the store while it serves, the
// store behind crashes at some of its calls and at its end, the store once the machine works again, and behind its orderly end.
//
// What a run may lose is worked out from what really hit (schedule_faults.hpp). Where nothing hit, nothing may fail.

#include "schedule_actions.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace schedules {

class fingerprint {
public:
    void add(std::string_view text) noexcept {
        for (auto const c : text) add_byte(static_cast<unsigned char>(c));
        add_byte(0xFF);
    }
    void add(std::uint64_t number) noexcept {
        for (int i = 0; i < 8; ++i) add_byte(number >> (8 * i) & 0xFF);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

private:
    void add_byte(std::uint64_t b) noexcept { value_ = (value_ ^ b) * 0x100000001B3U; }
    std::uint64_t value_ = 0xCBF29CE484222325U;
};

/// What a run was like.
struct run_result {
    struct call {
        keel::io::io_call what;
        bool of_segment;
    };
    std::string trouble{};               ///< empty: all is well
    std::uint64_t fingerprint = 0;       ///< of all calls and answers: alike runs have the same
    std::vector<call> calls{};           ///< as they were made
    std::vector<std::uint32_t> places{}; ///< who came to which place of the schedule
    std::uint64_t fired = 0;             ///< troubles that hit
    std::uint64_t allocations = 0;       ///< that were counted
    std::uint64_t states = 0;            ///< that were looked at behind a crash or an end
    bool unused_switch = false;
    bool hung = false;
};

/// What is looked at behind a run.
struct scrutiny {
    bool crashes = true;             ///< else the run is only made
    std::uint64_t crash_one_in = 40; ///< of the calls, at how many a crash is looked at
    bool tells = false;              ///< every call and answer, on the standard output
};

template <class Store, class Plain>
class run_of {
public:
    run_of(program const& what, disk_type const& prepared, writes const& there_before, run_name name, scrutiny how,
           std::uint64_t ticks_before)
        : what_{what}, disk_{prepared.after_process_crash()}, fs_{faulty_disk{disk_}}, order_{std::move(name.order)},
          how_{how}, acts_{disk_, fs_, there_before, std::move(name.troubles), !what.prologue.empty(), how.tells} {
        acts_.open_files(what.open_files);
        ticks = ticks_before;
    }

    [[nodiscard]] run_result run() {
        if (acts_.open(what_.background)) {
            for (auto const& a : what_.prologue) acts_.perform(a, main_thread);
            acts_.faults().begin();
            run_threads();
            if (!hung_) finish();
        }
        acts_.faults().end();
        out_.fired = acts_.faults().fired();
        mark_.add(acts_.answers());
        out_.fingerprint = mark_.value();
        out_.trouble = acts_.trouble();
        out_.hung = hung_;
        return std::move(out_);
    }

    /// What the program finds there: made once, by one thread without faults.
    [[nodiscard]] std::pair<disk_type, writes> prepare() {
        if (acts_.open(false))
            for (auto const& a : what_.before) acts_.perform(a, before_thread);
        acts_.leave(what_.how_left);
        auto left_there = what_.how_left == left::killed ? disk_.after_process_crash()
                                                         : disk_.after_power_loss({.what = keel::io::keep::newest});
        return {std::move(left_there), acts_.all()};
    }
    [[nodiscard]] std::string const& trouble() const { return acts_.trouble(); }

private:
    static constexpr std::uint32_t main_thread = 98;

    void run_threads() {
        std::vector<turns::task> tasks;
        for (std::size_t t = 0; t < what_.threads.size(); ++t)
            tasks.push_back({.name = "thread " + std::to_string(t), .run = [this, t] {
                                 for (auto const& a : what_.threads[t]) acts_.perform(a, static_cast<std::uint32_t>(t));
                             }});
        take_turns(std::move(tasks), order_);
        out_.allocations = refused_memory::asked();
    }
    /// The rest of the run, by one thread, so that it is told where that hangs.
    void finish() {
        acts_.faults().end();
        look_behind_crashes(~std::uint64_t{0});
        take_turns({{.name = "behind the program", .run = [this] { acts_.come_to_an_end(); }}}, {});
        if (hung_) return;
        if (!acts_.trouble().empty())
            return acts_.forget_store(); // whatever is wrong must not be met again by the destructor
        acts_.drop_store();
        if (how_.crashes) look_at_end();
    }
    void take_turns(std::vector<turns::task> tasks, keel::io::schedule const& order) {
        fs_.on_call(
            [](keel::io::switch_point const& p) {
                turns::reached(p);
                refused_memory::begin_uncounted(); // a simulated disk's own
            },
            [](keel::io::switch_point const&) { refused_memory::end_uncounted(); });
        auto const seen = turns::run(std::move(tasks), order, [this](turns::step const& s) { before_call(s); });
        fs_.on_call({});
        if (!acts_.faults().over()) out_.places = seen.places;
        out_.unused_switch = out_.unused_switch || seen.unused != 0;
        if (seen.how == turns::ending::finished) return;
        hung_ = true;
        acts_.complain(seen.report);
        acts_.forget_store(); // its threads stand in there
    }

    void before_call(turns::step const& s) {
        ++calls_made_;
        note_call(s);
        if (auto t = acts_.faults().before_call(s, calls_made_); !t.empty())
            acts_.complain("at call " + std::to_string(calls_made_) + ": " + t);
        if (acts_.faults().over()) return;
        out_.calls.push_back({s.what.call, s.what.path.ends_with(".seg")});
        if (chosen_for_crash()) look_behind_crashes(calls_made_);
    }
    void note_call(turns::step const& s) {
        mark_.add(s.thread);
        mark_.add(keel::io::name_of(s.what.call));
        mark_.add(s.what.path);
        mark_.add(s.what.offset);
        mark_.add(s.what.length);
        mark_.add(acts_.answers());
        if (!how_.tells) return;
        std::printf("  %3llu (place %3llu) thread %u: %s %.*s at %llu, %llu bytes\n",
                    static_cast<unsigned long long>(calls_made_), static_cast<unsigned long long>(s.number), s.thread,
                    std::string{keel::io::name_of(s.what.call)}.c_str(), static_cast<int>(s.what.path.size()),
                    s.what.path.data(), static_cast<unsigned long long>(s.what.offset),
                    static_cast<unsigned long long>(s.what.length));
    }
    [[nodiscard]] bool chosen_for_crash() const {
        auto const x = (mark_.value() ^ calls_made_) * 0x9E3779B97F4A7C15ULL;
        return (x >> 32) % how_.crash_one_in == 0;
    }

    /// What crashes here and now would leave.
    void look_behind_crashes(std::uint64_t seed) {
        if (!how_.crashes || hung_ || !acts_.trouble().empty()) return;
        using keel::io::keep;
        look_at(disk_.after_process_crash(), state_of::killed);
        if (std::ranges::any_of(acts_.all(), [](auto const& w) { return w.at_risk; })) {
            auto left_there = disk_.after_process_crash();
            left_there.evict(seed);
            look_at(std::move(left_there), state_of::killed_evicted);
        }
        look_at(disk_.after_power_loss({.what = keep::oldest}), state_of::without_power);
        look_at(disk_.after_power_loss({.what = keep::random, .seed = seed}), state_of::without_power);
    }
    void look_at_end() {
        if (acts_.closed_in_order())
            look_at(disk_.after_power_loss({.what = keel::io::keep::oldest}), state_of::closed);
        else look_at(disk_.after_process_crash(), state_of::killed);
    }
    void look_at(disk_type disk, state_of how) {
        if (!acts_.trouble().empty()) return;
        ++out_.states;
        auto const trouble = trouble_on<Plain>(std::move(disk), acts_.all(), acts_.known(how));
        if (!trouble.empty())
            acts_.complain(std::string{name_of(how)} + ", at call " + std::to_string(calls_made_) + ": " + trouble);
    }

    program const& what_;
    disk_type disk_;
    scheduled_disk fs_;
    keel::io::schedule order_;
    scrutiny how_;
    performer<Store> acts_;
    run_result out_{};
    fingerprint mark_{};
    std::uint64_t calls_made_ = 0;
    bool hung_ = false;
};

} // namespace schedules

#endif
