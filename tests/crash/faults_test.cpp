// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

// The machine says no: every operation of short workloads fails in turn, with EIO, a full disk or a failing sync; once, twice (so
// that the rewrite fails too) or from there on until resume(). What follows is stopped at every step by a killed process whose
// failed pages revert, and by power losses; in a sample of what that leaves the store goes on and ends once more. Nothing acknowledged is
// lost, before or after, nothing that failed outright is there, an unknown outcome is there whole or not at all. A loss that is named must
// be one that the fault explains.

#include "../support/slow_build.hpp"
#include "workload.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace crash;

using keel::test::sanitized;
constexpr std::uint64_t fault_workloads = sanitized ? 1 : 6;
/// Of a workload's operations, how many fail; and of those behind a fault, how many are looked at as if the machine stopped there.
constexpr std::uint64_t fault_step = sanitized ? 3 : 1;
constexpr std::uint64_t fault_one_in = sanitized ? 11 : 3;
/// Of those states, in how many the store goes on, ends another time and is opened once more.
constexpr std::uint64_t fault_followed_one_in = 7;

struct failure_mode {
    keel::io::fault_kind kind;
    keel::io::fault_class on;
    std::uint64_t count;
    char const* name;
};

constexpr failure_mode modes[] = {
    {keel::io::fault_kind::fail, keel::io::fault_class::any, 1, "EIO once"},
    {keel::io::fault_kind::fail, keel::io::fault_class::any, 2, "EIO twice"},
    {keel::io::fault_kind::fail, keel::io::fault_class::any, 30, "EIO for a while"},
    {keel::io::fault_kind::short_write, keel::io::fault_class::write, 1, "a short write"},
    {keel::io::fault_kind::no_space, keel::io::fault_class::any, 1, "ENOSPC once"},
    {keel::io::fault_kind::no_space, keel::io::fault_class::any, keel::io::forever, "ENOSPC until resume"},
    {keel::io::fault_kind::fail_sync, keel::io::fault_class::sync, 1, "a failing sync"},
    {keel::io::fault_kind::fail_sync, keel::io::fault_class::sync, 2, "two failing syncs"},
    {keel::io::fault_kind::fail_sync, keel::io::fault_class::sync, 3, "three failing syncs"},
};

template <class Durability>
class fault_enumeration {
public:
    using merged_early = keel::compaction::leveled<8 * keel::KiB, 2>;
    // The threads' tests are of the same type, so that it is compiled once; here nobody looks at the calls.
    using fs_type = keel::io::scheduled<keel::io::faulty<keel::io::memory>>;
    using store = keel::engine<Durability, merged_early, fs_type, keel::segment_size<4 * keel::KiB>>;
    using plain_store = keel::engine<Durability, merged_early, keel::io::memory, keel::segment_size<4 * keel::KiB>>;
    static constexpr bool mapped = Durability::path == keel::write_path::mapped;

    explicit fault_enumeration(bool merges) : merging{merges} {}
    bool const merging;

    void run(std::uint64_t number, failure_mode const& mode) {
        // The first n beyond the workload's operations hits nothing: then every one has had its turn.
        for (std::uint64_t n = 1;; n += fault_step) {
            auto const fired = fired_;
            attempt(number, mode, n);
            if (fired_ == fired) break;
        }
    }
    [[nodiscard]] std::uint64_t states() const { return states_; }
    [[nodiscard]] std::uint64_t followed() const { return followed_; }
    [[nodiscard]] std::uint64_t fired() const { return fired_; }
    [[nodiscard]] std::uint64_t resumed() const { return resumed_; }
    [[nodiscard]] std::uint64_t unknown() const { return unknown_; }
    [[nodiscard]] std::uint64_t merged() const { return merged_; }
    [[nodiscard]] std::uint64_t unmerged() const { return unmerged_; }
    [[nodiscard]] std::uint64_t ingested() const { return ingested_; }
    [[nodiscard]] std::uint64_t unknown_ingests() const { return unknown_ingests_; }

private:
    void attempt(std::uint64_t number, failure_mode const& mode, std::uint64_t n) {
        what_ = std::string{mode.name} + " at " + std::to_string(n) + ", workload " + std::to_string(number);
        model::reset_machine();
        keel::io::memory disk;
        fs_type fs{keel::io::faulty<keel::io::memory>{disk}};
        model::history h;
        maybe_ = 0;
        hits_.clear();
        fs.inner().set_plan({{{.kind = mode.kind, .on = mode.on, .at = n, .count = mode.count, .seed = n}}});
        disk.on_operation([&](keel::io::operation const&) {
            note_hits(fs);
            if (!fs.inner().log().empty() && ++since_ % fault_one_in == 0) explore(disk, h);
        });
        play(fs, h, make_workload(number, merging));
        disk.on_operation({});
        note_hits(fs);
        explore(disk, h);
        fired_ += !fs.inner().log().empty();
    }

    void play(fs_type& fs, model::history& h, workload const& all) {
        auto db = open(fs);
        if (!db) return;
        for (auto const& s : all) {
            if (s.kind == step_kind::reopen) {
                if (db->close()) h.owed_power = h.owed_process = h.issued.size() - maybe_;
                db = open(fs);
                if (!db) return;
                if (maybe_ != 0) forget_unknown(*db, h);
            } else {
                do_step(fs, *db, h, s);
            }
        }
        if (db->close() && maybe_ == 0) h.owed_power = h.owed_process = h.issued.size();
    }

    /// An open that fails leaves everything as it is: the next one, on a machine that works, succeeds.
    std::optional<store> open(fs_type& fs) {
        auto db = store::open("store", model::test_options(), fs);
        if (db) return std::move(*db);
        note_hits(fs);
        fs.inner().set_plan({});
        ++fired_;
        auto again = store::open("store", model::test_options(), fs);
        if (!again) return fail("a second open fails: " + keel::to_string(again.error())), std::nullopt;
        return std::move(*again);
    }

    // What an orderly end or a crash leaves of an unknown outcome shows when the store is opened.
    void forget_unknown(store& db, model::history& h) {
        auto const n = h.batches_until(db.recovery().last_lsn.value);
        if (!n) return fail("ends inside a batch");
        h.found(db, *n);
        maybe_ = 0;
        h.owed_process = *n;
    }
    void do_step(fs_type& fs, store& db, model::history& h, step const& s) {
        if (s.kind == step_kind::sync) {
            if (db.sync() && maybe_ == 0) h.owed_power = h.issued.size();
        } else if (s.kind == step_kind::idle) {
            db.housekeep(true);
        } else if (s.kind == step_kind::merge) {
            bool const done = db.compact().has_value();
            ++(done ? merged_ : unmerged_);
            if (done && maybe_ == 0) h.owed_power = h.owed_process = h.issued.size();
        } else if (s.kind == step_kind::ingest) {
            ingest(db, h, s.operations);
        } else {
            write(db, h, s.operations);
        }
        if (db.state() == keel::engine_state::read_only) resume(fs, db, h);
    }

    void write(store& db, model::history& h, model::batch const& operations) {
        h.issue(operations);
        ++maybe_; // until the call returns
        keel::write_batch b;
        for (auto const& op : operations) {
            if (op.put) b.put(op.key, op.value);
            else b.erase(op.key);
        }
        auto const done = db.write(b);
        if (done) {
            maybe_ = 0;
            if (done->value != h.last_lsn())
                fail("gave LSN " + std::to_string(done->value) + " instead of " + std::to_string(h.last_lsn()));
            h.owed_process = h.issued.size();
            if constexpr (!mapped) h.owed_power = h.issued.size();
        } else if (done.error().code == keel::errc::outcome_unknown) {
            ++unknown_;
        } else {
            h.issued.pop_back(); // refused outright: it must not be there
            --maybe_;
        }
    }

    void ingest(store& db, model::history& h, model::batch const& operations) {
        h.begin_ingest(operations);
        ++maybe_;
        auto const done = db.ingest(sorted(operations));
        if (done) {
            maybe_ = 0;
            h.end_ingest(done->value);
            h.owed_power = h.owed_process = h.issued.size();
            ++ingested_;
        } else if (done.error().code == keel::errc::outcome_unknown) {
            ++unknown_;
            ++unknown_ingests_;
        } else if (db.state() == keel::engine_state::read_only) {
            h.issued.back().operations.clear(); // its LSN may be there, and means nothing
        } else {
            h.issued.pop_back();
            --maybe_;
            h.skip_to(db.last_lsn().value);
        }
    }

    void resume(fs_type& fs, store& db, model::history& h) {
        auto first = db.resume();
        if (!first) {
            note_hits(fs);
            fs.inner().set_plan({});
            ++fired_;
            first = db.resume();
        }
        if (!first) return fail("resume() fails on a machine that works: " + keel::to_string(first.error()));
        ++resumed_;
        h.issued.resize(h.issued.size() - maybe_); // given up
        maybe_ = 0;
        // On the mapped path what was accepted and never synced may be lost by a failed sync, and is then named.
        if (mapped && loss_is_explained()) trim_lost(db, h);
        h.skip_to(db.last_lsn().value); // of what was to be ingested
    }

    void trim_lost(store& db, model::history& h) {
        auto const n = h.batches_until(db.last_lsn().value);
        if (n && *n < h.issued.size()) h.issued.resize(*n);
        h.owed_process = std::min(h.owed_process, h.issued.size());
    }

    void explore(keel::io::memory const& disk, model::history const& h) {
        using keel::io::keep;
        auto const seed = ++seed_;
        auto left = disk.after_process_crash();
        if (seed % 2 == 0) left.evict(seed); // else they go later, if at all
        visit(std::move(left), h, model::crash_kind::process);
        visit(disk.after_power_loss({.what = keep::oldest}), h, model::crash_kind::power);
        visit(disk.after_power_loss({.what = keep::random, .seed = seed}), h, model::crash_kind::power);
    }

    void visit(keel::io::memory disk, model::history const& h, model::crash_kind kind) {
        ++states_;
        auto db = plain_store::open("store", model::test_options(), disk);
        if (!db) return fail("does not open: " + keel::to_string(db.error()));
        std::size_t holds = 0;
        // A failed sync may cost what was accepted but never synced, even if only the process dies: the page cache gave it up.
        bool const may_lose = mapped && loss_is_explained();
        auto const owed = may_lose ? std::min(h.owed(kind), h.owed_power) : h.owed(kind);
        auto const trouble = model::compare(*db, h, owed, holds);
        // On the mapped path a failed sync may cost accepted records out of the middle: then they are named, not silently gone.
        if (may_lose && !trouble.empty() && losses_are_named(disk)) {
            if (states_ % fault_followed_one_in == 0) return follow_as_found(std::move(*db), std::move(disk));
            return db->abandon();
        }
        if (!trouble.empty())
            return fail((kind == model::crash_kind::process ? "process crash: " : "power loss: ") + trouble);
        if (kind == model::crash_kind::process &&
            hit_a_segment(&keel::io::fired_fault::kind, keel::io::fault_kind::fail_sync) &&
            gave_up_accepted(db->recovery()))
            return db->abandon();
        auto const verdict = model::verdict_of_crash(db->recovery());
        if (!verdict.empty()) fail(verdict);
        if (states_ % fault_followed_one_in == 0) return follow(std::move(*db), std::move(disk), h, owed, holds);
        auto const more = db->put("more", "after");
        if (!more) fail("cannot be written to: " + keel::to_string(more.error()));
        if (merging && seed_ % 4 == 0) {
            if (auto const all = db->compact(); !all) fail("cannot be merged: " + keel::to_string(all.error()));
            auto const sound = db->verify();
            if (!sound) fail("cannot be verified behind a merge: " + keel::to_string(sound.error()));
            else if (!sound->findings.empty())
                fail("is not whole behind a merge: " + sound->findings[0].file + " at " +
                     std::to_string(sound->findings[0].offset) + ": " + sound->findings[0].detail);
        }
        db->abandon();
    }

    void follow(plain_store db, keel::io::memory disk, model::history h, std::size_t owed, std::size_t holds) {
        h.found(db, holds);
        h.owed_process = h.owed_power = owed;
        go_on(std::move(db), std::move(disk), std::move(h), states_ / fault_followed_one_in % 2 * (1 + states_ % 53));
    }
    /// Where records are missing, what is there counts as one batch.
    void follow_as_found(plain_store db, keel::io::memory disk) {
        model::history h;
        model::batch all;
        auto found = db.scan();
        for (auto&& [key, value] : found) all.push_back({.key = std::string{key}, .value = std::string{value}});
        if (!found.status()) fail("a scan ended early");
        h.issued.push_back({std::move(all), db.recovery().last_lsn.value});
        go_on(std::move(db), std::move(disk), std::move(h), 0);
    }
    void go_on(plain_store db, keel::io::memory disk, model::history h, std::uint64_t stop_at) {
        ++followed_;
        sequel<plain_store> next{std::move(db), std::move(disk), std::move(h), merging, states_, stop_at};
        if (auto const trouble = next.run(); !trouble.empty()) fail(trouble);
    }

    /// What hit since the workload began: a new plan forgets it.
    void note_hits(fs_type const& fs) {
        for (auto const& f : fs.inner().log())
            if (std::ranges::find(hits_, f) == hits_.end()) hits_.push_back(f);
    }
    template <class Member, class Value>
    [[nodiscard]] bool hit_a_segment(Member what, Value wanted) const {
        return std::ranges::any_of(
            hits_, [&](keel::io::fired_fault const& f) { return f.*what == wanted && f.path.ends_with(".seg"); });
    }
    /// Only a failed sync lets the page cache forget records, and only a failed read keeps them from being written again: no other fault
    /// may cost any, however it is named.
    [[nodiscard]] bool loss_is_explained() const {
        return hit_a_segment(&keel::io::fired_fault::kind, keel::io::fault_kind::fail_sync) ||
               hit_a_segment(&keel::io::fired_fault::on, keel::io::fault_class::read);
    }

    /// Killed at a failed sync, before the notes said so: they still call accepted what the page cache gave up since.
    static bool gave_up_accepted(keel::recovery_report const& report) {
        return std::ranges::any_of(report.findings, [](keel::finding const& f) { return f.lost != 0; });
    }
    static bool losses_are_named(keel::io::memory disk) {
        auto const seen = keel::recovery::examine<typename plain_store::config_type>(disk, "store",
                                                                                     model::test_options());
        return seen && (!seen->found.declared.empty() || !seen->found.lost.empty());
    }

    void fail(std::string const& what) {
        if (++failures_ > 3) return;
        FAIL_CHECK(Durability::name << ", " << what_ << ", state " << states_ << ": " << what);
    }

    std::string what_{};
    std::vector<keel::io::fired_fault> hits_{};
    std::size_t maybe_ = 0; ///< of the issued batches, how many at the end have an unknown outcome
    std::uint64_t since_ = 0;
    std::uint64_t states_ = 0;
    std::uint64_t followed_ = 0; ///< of those, how many were gone on from
    std::uint64_t seed_ = 0;
    std::uint64_t fired_ = 0;
    std::uint64_t resumed_ = 0;
    std::uint64_t unknown_ = 0;
    std::uint64_t merged_ = 0;
    std::uint64_t unmerged_ = 0;
    std::uint64_t ingested_ = 0;
    std::uint64_t unknown_ingests_ = 0;
    int failures_ = 0;
};

template <class Durability>
void fail_everywhere(std::uint64_t count = fault_workloads, bool merging = false) {
    fault_enumeration<Durability> e{merging};
    for (auto const& mode : modes)
        for (std::uint64_t n = 0; n < count; ++n) e.run(n, mode);
    std::printf("fault enumeration, %-12s %7llu faults fired, %7llu crash states behind them, %llu gone on from, %llu "
                "unknown outcomes, %llu resumes\n",
                std::string{Durability::name}.c_str(), static_cast<unsigned long long>(e.fired()),
                static_cast<unsigned long long>(e.states()), static_cast<unsigned long long>(e.followed()),
                static_cast<unsigned long long>(e.unknown()), static_cast<unsigned long long>(e.resumed()));
    CHECK(e.fired() > 100);
    CHECK(e.states() > (sanitized ? 300 : 1000));
    CHECK(e.followed() > e.states() / 10);
    CHECK(e.resumed() > 0);
    CHECK((e.ingested() > 100 || sanitized));
    CHECK((e.unknown_ingests() > 0 || sanitized));
    CHECK(e.merged() >= (merging ? sanitized ? 30 : 100 : 0));
    CHECK(e.unmerged() >= (merging ? sanitized ? 10 : 30 : 0));
}

} // namespace

TEST_CASE("faults: nothing acknowledged is lost when any operation fails under every_write") {
    fail_everywhere<keel::durability::every_write>();
}
TEST_CASE("faults: nothing acknowledged is lost when any operation fails under group_commit") {
    fail_everywhere<keel::durability::group_commit>();
}
TEST_CASE("faults: nothing synced is lost when any operation fails under interval") {
    fail_everywhere<keel::durability::interval<100>>();
}
TEST_CASE("faults: nothing synced is lost when any operation fails under os_buffered") {
    fail_everywhere<keel::durability::os_buffered>();
}

TEST_CASE("faults: nothing acknowledged is lost when any operation of a merge fails") {
    fail_everywhere<keel::durability::group_commit>(sanitized ? 1 : 4, true);
    fail_everywhere<keel::durability::os_buffered>(sanitized ? 1 : 4, true);
}
