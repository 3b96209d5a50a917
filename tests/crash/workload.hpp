// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_WORKLOAD_HPP
#define KEEL_TESTS_CRASH_WORKLOAD_HPP

// Short programs over a store, small enough to stop at every I/O operation of theirs. Segments are 4 or 8 KiB, so a handful of
// values rolls over, seals and recycles. And what comes behind a crash: more of the same, another end, another opening.

#include "../support/model.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace crash {

enum class step_kind { write, sync, idle, reopen, merge, ingest };

struct step {
    step_kind kind = step_kind::write;
    model::batch operations{};
};
using workload = std::vector<step>;

/// The workload of a number: each has its own mixture of batch sizes, value sizes, erases, syncs, idle marks and reopenings; where
/// the store merges, of merges, at least one at its end. `chunk_first`: begins with a batch that fills a chunk of an 8 KiB segment, so
/// that what comes next stands behind the chunk's index.
inline workload make_workload(std::uint64_t number, bool merging = false, bool chunk_first = false) {
    auto state = number * 0x9E3779B97F4A7C15ULL + 1;
    auto const random = [&](std::uint64_t below) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % below;
    };
    workload all;
    if (chunk_first) {
        step s;
        for (int k = 0; k < 16; ++k)
            s.operations.push_back(
                {.key = "key" + std::to_string(k % 8), .value = std::string(92, static_cast<char>('A' + k))});
        all.push_back(std::move(s));
    }
    auto const steps = 3 + number % 6;
    for (std::uint64_t i = 0; i < steps; ++i) {
        step s;
        auto const kind = random(12);
        if (merging && (kind > 9 || (i > 2 && kind > 6) || i + 1 == steps)) s.kind = step_kind::merge;
        else if (kind == 0) s.kind = step_kind::sync;
        else if (kind == 1) s.kind = step_kind::idle;
        else if (kind == 2 && number % 3 == 0) s.kind = step_kind::reopen;
        else if (kind == 3 || (merging && i == 1)) s.kind = step_kind::ingest;
        if (s.kind == step_kind::ingest)
            for (auto k = random(5); k < 6; k += 1 + random(3))
                s.operations.push_back(
                    {.key = "key" + std::to_string(k),
                     .value = std::string(static_cast<std::size_t>(random(200)), 'i') + std::to_string(i)});
        if (s.kind == step_kind::write) {
            auto const operations = random(4) == 0 ? 2 + random(4) : 1;
            for (std::uint64_t k = 0; k < operations; ++k) {
                auto const big = number % 4 == 1 ? 700 : number % 4 == 3 ? 200 : 40;
                auto const length = random(static_cast<std::uint64_t>(big));
                s.operations.push_back(
                    {.put = random(5) != 0,
                     .key = "key" + std::to_string(random(6)),
                     .value = std::string(static_cast<std::size_t>(length), static_cast<char>('a' + random(26))) +
                              std::to_string(i)});
            }
        }
        all.push_back(std::move(s));
    }
    return all;
}

/// What ingest() takes.
inline model::contents sorted(model::batch const& operations) {
    model::contents all;
    for (auto const& op : operations) all[op.key] = op.value;
    return all;
}

/// Goes on in a store that was opened behind a crash: writes, merges if asked to, ends and opens again, twice over. What it held counts
/// as much as what is written now, and an LSN taken anew must not fall under what was said of the one before.
template <class Store>
class sequel {
public:
    /// `h`: what the store holds, and how much of it a crash may not take. `stop_at`: the operation of the first part behind which the
    /// machine stops; 0, or one beyond its last: at its end. The rest is chosen by `seed`.
    sequel(Store store, keel::io::memory disk, model::history h, bool merges, std::uint64_t seed, std::uint64_t stop_at)
        : db_{std::move(store)}, disk_{std::move(disk)}, h_{std::move(h)}, merges_{merges}, seed_{seed},
          stop_at_{stop_at} {}

    /// It is only processes that die from here on.
    void keep_power() { keeps_power_ = true; }

    /// What is wrong; empty where nothing is.
    [[nodiscard]] std::string run() {
        for (int part = 0; part < 2 && trouble_.empty(); ++part) {
            std::uint64_t n = 0;
            stopped_.reset();
            disk_.on_operation([&](keel::io::operation const&) {
                if (++n == stop_at_) stopped_.emplace(crashed(), h_);
            });
            write("more" + std::to_string(part));
            if (orderly() && trouble_.empty()) close();
            disk_.on_operation({});
            if (trouble_.empty()) open_again();
            stop_at_ = 0;
            seed_ /= 12;
        }
        db_.abandon();
        return trouble_;
    }

private:
    static constexpr bool mapped = Store::config_type::durability::path == keel::write_path::mapped;

    [[nodiscard]] bool orderly() const { return seed_ % 3 == 0; }
    [[nodiscard]] model::crash_kind kind() const {
        return seed_ % 2 == 0 && !keeps_power_ ? model::crash_kind::power : model::crash_kind::process;
    }
    [[nodiscard]] bool merges_at(std::uint64_t turn) const { return merges_ && seed_ / 6 % 2 == turn; }
    [[nodiscard]] keel::io::memory crashed() const {
        if (kind() == model::crash_kind::process) return disk_.after_process_crash();
        return disk_.after_power_loss({.what = keel::io::keep::random, .seed = seed_});
    }

    /// A record, a batch, and one more record that stays unsynced where the policy leaves that open.
    void write(std::string const& key) {
        commit({{.key = key, .value = std::string(30, 'x')}});
        if (merges_at(0)) merge();
        commit({{.key = "key1", .value = "again"}, {.put = false, .key = "key2"}, {.key = key + "b", .value = key}});
        if constexpr (mapped) sync();
        commit({{.key = key + "c", .value = std::string(200, 'y')}});
        if (merges_at(1)) merge();
    }
    void commit(model::batch const& operations) {
        if (!trouble_.empty()) return;
        h_.issue(operations);
        keel::write_batch b;
        for (auto const& op : operations) {
            if (op.put) b.put(op.key, op.value);
            else b.erase(op.key);
        }
        auto const done = db_.write(b);
        if (!done) return complain("cannot be written to: " + keel::to_string(done.error()));
        if (done->value != h_.last_lsn()) return complain("gives an LSN out of order");
        h_.owed_process = h_.issued.size();
        if constexpr (!mapped) h_.owed_power = h_.issued.size();
    }
    void sync() { all_kept(db_.sync(), "cannot be synced: "); }
    void merge() { all_kept(db_.compact(), "cannot be merged: "); }
    void close() { all_kept(db_.close(), "cannot be closed: "); }
    template <class Result>
    void all_kept(Result const& done, char const* or_else) {
        if (!done) complain(or_else + keel::to_string(done.error()));
        h_.owed_process = h_.owed_power = h_.issued.size();
    }

    void open_again() {
        db_.abandon();
        if (stopped_) std::tie(disk_, h_) = *stopped_;
        else if (!orderly()) disk_ = crashed();
        auto next = Store::open("store", model::test_options(), disk_);
        if (!next) return complain("does not open: " + keel::to_string(next.error()));
        db_ = std::move(*next);
        std::size_t holds = 0;
        complain(model::compare(db_, h_, h_.owed(kind()), holds));
        complain(model::verdict_of_crash(db_.recovery()));
        if (!trouble_.empty()) return;
        h_.found(db_, holds);
        h_.owed_process = kind() == model::crash_kind::process ? holds : h_.owed_power;
    }
    void complain(std::string const& what) {
        if (what.empty() || !trouble_.empty()) return;
        trouble_ = std::string{"gone on from, "} + (stopped_ ? "stopped, " : "ended, ") +
                   (orderly() ? "closing, " : "") +
                   (kind() == model::crash_kind::process ? "process crash: " : "power loss: ") + what;
    }

    Store db_;
    keel::io::memory disk_;
    model::history h_;
    bool merges_;
    std::uint64_t seed_;
    std::uint64_t stop_at_;
    std::optional<std::pair<keel::io::memory, model::history>>
        stopped_{}; ///< what the stop left, and what is owed there
    bool keeps_power_ = false;
    std::string trouble_{};
};

} // namespace crash

#endif
