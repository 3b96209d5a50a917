// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_ACTIONS_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_ACTIONS_HPP

// Performs the actions of programs on one store and keeps account of what was answered: which writes were accepted, which are durable, what
// readers saw. Used by several threads, one of which runs at a time.

#include "schedule_faults.hpp"
#include "schedule_judge.hpp"
#include "schedule_look.hpp"
#include "schedule_programs.hpp"

#include <keel/keel.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace schedules {

/// Writes of the time before the program have this in their keys.
inline constexpr std::uint32_t before_thread = 99;

template <class Store>
class performer {
    static constexpr bool is_log = !key_value_store<Store>;
    static constexpr bool mapped = Store::config_type::durability::path == keel::write_path::mapped;

public:
    performer(disk_type disk, scheduled_disk& fs, writes const& there_before, std::vector<planned_trouble> plan,
              bool has_prologue, bool tells)
        : disk_{std::move(disk)}, fs_{fs}, all_{there_before},
          faults_{fs.inner(), std::move(plan), all_, has_prologue, tells}, tells_{tells} {
        for (auto const& w : all_) moment_ = std::max({moment_, w.begun, w.answered});
    }
    performer(performer const&) = delete;
    performer& operator=(performer const&) = delete;

    /// As open_options has it, of every opening from here on.
    void open_files(std::uint64_t most) noexcept { open_files_ = most; }
    /// `background`: with the threads that keel starts. Only where all threads take turns.
    bool open(bool background) {
        auto options = run_options(background);
        options.open_files = open_files_;
        if (damaged_) options.verify = keel::verify_depth::deep;
        auto opened = Store::open("store", options, fs_);
        if (!opened) return complain("does not open: " + keel::to_string(opened.error())), false;
        store_ = std::make_unique<Store>(std::move(*opened));
        return true;
    }
    void leave(left how) {
        if (store_ && how == left::killed) store_->abandon();
        else if (store_ && !store_->close()) complain("cannot be closed before the program begins");
        store_.reset();
    }
    void drop_store() { store_.reset(); }
    void forget_store() { static_cast<void>(store_.release()); }

    [[nodiscard]] fault_driver& faults() noexcept { return faults_; }
    [[nodiscard]] writes const& all() const noexcept { return all_; }
    [[nodiscard]] std::string const& trouble() const noexcept { return trouble_; }
    /// Of all answers so far.
    [[nodiscard]] std::uint64_t answers() const noexcept { return answers_; }
    [[nodiscard]] bool closed_in_order() const noexcept { return closed_in_order_; }
    /// For the first thing that is wrong.
    void complain(std::string const& what) {
        if (tells_) std::printf("  *** %s\n", what.c_str());
        if (trouble_.empty()) trouble_ = what;
    }
    [[nodiscard]] circumstances known(state_of how) const {
        auto const may_be_lost = [&](auto const& w) {
            return !w.durable && (w.read_back_failed || (w.at_risk && how == state_of::killed_evicted));
        };
        return {.how = how,
                .damaged = damaged_,
                .loss_explained = damaged_ || std::ranges::any_of(all_, may_be_lost),
                .header_torn = faults_.header_torn(),
                .read_failed = faults_.read_failed()};
    }

    void perform(action const& a, std::uint32_t thread) {
        turns::doing(name_of(a.what));
        if (tells_) std::printf("  thread %u: %s\n", thread, name_of(a.what));
        if (!store_ && a.what != act::nap) return; // it could not be opened again
        switch (a.what) {
        case act::put:
        case act::batch:
        case act::fill:
        case act::ingest: return write(a, thread);
        case act::transact: return transact(thread);
        case act::sync: return settle("sync", [this] { return store_->sync(); });
        case act::merge: return merge();
        case act::idle: return idle();
        case act::read: return read();
        case act::scan: return scan();
        case act::snapshot: return take_snapshot();
        case act::close: return close();
        case act::resume:
            return static_cast<void>(answered("resume", tried("resume", [this] { return store_->resume(); })));
        case act::follow: return follow();
        case act::truncate: return truncate();
        case act::nap: return std::this_thread::sleep_for(std::chrono::milliseconds{a.size});
        case act::destroy: return destroy();
        case act::reopen:
        case act::reopen_killed:
        case act::reopen_damaged: return reopen(a.what);
        }
    }

    /// Behind the program, on a machine that works: the store as it serves; then it becomes writable, is written to, and closed.
    void come_to_an_end() {
        turns::doing("looking at the store");
        if (!store_ && !open(false)) return;
        if (trouble_.empty()) note(judge_lsns(all_, faults_.fired() == 0));
        if (!trouble_.empty() || closed_ || store_->state() == keel::engine_state::closed) return;
        check_serving();
        if (faults_.fired() == 0 && !damaged_ && store_->state() != keel::engine_state::healthy)
            complain("is not healthy although nothing failed: " + store_->state_reason());
        losses_are_explained(store_->state_reason());
        if (trouble_.empty()) become_writable();
        if (trouble_.empty()) write_once_more();
        if (trouble_.empty()) check_serving();
        if (trouble_.empty()) close_at_end();
    }

private:
    // ---- asking the store -----------------------------------------------------------------------------------------------------

    /// What a call gives; nothing where an allocation was refused in it.
    template <class Call>
    auto tried(char const* what, Call const& call) -> std::optional<decltype(call())> {
        try {
            refused_memory::counted const now;
            return call();
        } catch (std::bad_alloc const&) {
            threw(what, "bad_alloc");
            if (!faults_.refused())
                complain(std::string{what} + " throws bad_alloc although no allocation was refused");
        } catch (std::exception const& e) {
            threw(what, e.what());
            complain(std::string{what} + " throws what is no bad_alloc: " + e.what());
        }
        return std::nullopt;
    }
    void threw(char const* what, char const* why) {
        answers_ = answers_ * 31 + 7;
        if (tells_) std::printf("  %s throws %s\n", what, why);
    }
    /// Keeps account of an answer. False: it was no.
    template <class Result>
    bool answered(char const* what, std::optional<Result> const& answer) {
        if (!answer) return false;
        answers_ = answers_ * 31 + (*answer ? 1 : 100 + static_cast<std::uint64_t>(answer->error().code));
        if (tells_) std::printf("  %s: %s\n", what, *answer ? "ok" : keel::to_string(answer->error()).c_str());
        if (!*answer) expected(answer->error(), what);
        return answer->has_value();
    }
    /// Where nothing has hit, the only no is that the store is closed, or that another transaction was first.
    void expected(keel::error const& why, std::string const& what) {
        faults_.harvest();
        if ((why.code == keel::errc::closed && closing_) || why.code == keel::errc::conflict) return;
        auto const told = what + " fails although ";
        if (faults_.fired() == 0) complain(told + "nothing failed: " + keel::to_string(why));
        else if (faults_.survivable() && !closing_)
            complain(told + "one failed write or sync of a segment is survived: " + keel::to_string(why));
        else if (why.code == keel::errc::corruption && !faults_.read_failed() && !damaged_)
            complain(what + " takes a fault for damage: " + keel::to_string(why));
    }

    // ---- writing --------------------------------------------------------------------------------------------------------------

    void write(action const& a, std::uint32_t thread) {
        auto const number = begin(make_write(a, thread));
        auto const ops = all_[number].operations; // others may grow the list meanwhile
        if constexpr (is_log) {
            std::vector<std::string> texts;
            for (auto const& op : ops) texts.push_back(record_text(op));
            std::vector<keel::byte_view> views;
            for (auto const& t : texts) views.push_back(keel::as_bytes(t));
            finish(number, "append", tried("append", [&] { return store_->append_batch(views); }));
        } else if (a.what == act::ingest) {
            model::contents sorted;
            for (auto const& op : ops) sorted[op.key] = op.value;
            finish(number, "ingest", tried("ingest", [&] { return store_->ingest(sorted); }));
        } else {
            keel::write_batch b;
            for (auto const& op : ops) {
                if (op.put) b.put(op.key, op.value);
                else b.erase(op.key);
            }
            finish(number, name_of(a.what), tried(name_of(a.what), [&] { return store_->write(b); }));
        }
    }
    [[nodiscard]] one_write make_write(action const& a, std::uint32_t thread) const {
        auto const id = std::to_string(thread) + "." + std::to_string(all_.size());
        auto const key = "k" + id;
        one_write w;
        w.takes_one_lsn = a.what == act::ingest;
        w.operations.push_back({.key = key, .value = id + std::string(a.size, 'v')});
        if (a.what == act::fill)
            w.operations.back().value = id + std::string(fresh_room(key) - a.size - id.size(), 'f');
        if (a.what == act::put) w.operations.push_back({.key = "shared", .value = id});
        if (a.what == act::batch || a.what == act::ingest) w.operations.push_back({.key = key + "b", .value = id});
        if (a.what == act::batch) w.operations.push_back({.put = false, .key = all_.front().own_key() + "e"});
        if (thread == before_thread && all_.empty())
            w.operations.push_back({.key = key + "e", .value = "goes with the first batch"});
        if (is_log) w.operations.resize(a.what == act::batch ? 2 : 1); // records have no keys that could be shared
        return w;
    }
    /// The longest value that a segment with nothing but its first mark has room for.
    [[nodiscard]] static std::size_t fresh_room(std::string const& key) {
        auto const frames = keel::format::frames_limit(run_segment_bytes) - run_frames_begin -
                            2 * keel::format::frame_bytes(keel::format::mark_bytes);
        return static_cast<std::size_t>(frames) - keel::format::frame_header_bytes - key.size();
    }
    std::size_t begin(one_write w) {
        w.now = standing::under_way;
        w.begun = ++moment_;
        all_.push_back(std::move(w));
        return all_.size() - 1;
    }
    void finish(std::size_t number, char const* what, std::optional<keel::result<keel::lsn>> const& answer) {
        bool const accepted = answered(what, answer);
        auto& w = all_[number];
        w.answered = ++moment_;
        w.now = standing::unknown; // of one that threw nothing more is known
        if (accepted) accept(w, answer->value().value);
        else if (answer && answer->error().code != keel::errc::outcome_unknown) w.now = standing::refused;
        answers_ = answers_ * 31 + w.last_lsn;
        if (tells_ && accepted)
            std::printf("  %s has LSN %llu\n", w.own_key().c_str(), static_cast<unsigned long long>(w.last_lsn));
    }
    void accept(one_write& w, std::uint64_t at) {
        w.now = standing::accepted;
        w.last_lsn = at;
        w.durable = !mapped || w.takes_one_lsn;
        if (!w.durable) return;
        for (auto& other : all_) // so is all before it
            if (other.now == standing::accepted && other.last_lsn < at && !other.read_back_failed) other.durable = true;
    }

    void transact(std::uint32_t thread) {
        if constexpr (!is_log) {
            auto const met = conflict_;
            auto tx = tried("begin", [this] { return store_->begin(); });
            if (!tx) return;
            // What a failed write took back is not waited for; nor is anything by a store that is being closed.
            if (met > tx->moment() && faults_.fired() == 0 && !closing_)
                complain("a transaction does not see the record that an earlier commit met");
            auto const was = tried("a transaction's get", [&] { return tx->get("counter"); });
            if (!answered("a transaction's get", was)) return;
            auto const next = std::to_string(**was ? std::stoi(***was) + 1 : 1);
            auto const id = std::to_string(thread) + "." + std::to_string(all_.size());
            auto const number =
                begin({.operations = {{.key = "k" + id, .value = id}, {.key = "counter", .value = next}}});
            bool const put = answered("a transaction's put", tried("a transaction's put", [&]() -> keel::result<void> {
                                          KEEL_TRY(tx->put("k" + id, id));
                                          return tx->put("counter", next);
                                      }));
            if (!put) {
                all_[number].now = standing::refused;
                return;
            }
            auto const done = tried("commit", [&] { return tx->commit(); });
            if (done && !*done && done->error().code == keel::errc::conflict)
                conflict_ = std::max(conflict_, done->error().at);
            finish(number, "commit", done);
            no_update_is_lost(number);
        }
    }
    void no_update_is_lost(std::size_t number) {
        auto const& mine = all_[number];
        for (std::size_t i = 0; i < number; ++i) {
            auto const& other = all_[i];
            bool const both = mine.now == standing::accepted && other.now == standing::accepted &&
                              other.operations.size() == 2;
            if (both && other.operations[1].key == "counter" && other.operations[1].value == mine.operations[1].value)
                complain("two transactions that read the same counter both committed");
        }
    }

    // ---- calls that make durable ----------------------------------------------------------------------------------------------

    /// A call after which everything accepted before it is durable.
    template <class Call>
    bool settles(char const* what, Call const& call) {
        std::vector<std::size_t> before;
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (all_[i].counts() && !all_[i].read_back_failed) before.push_back(i);
        if (!answered(what, tried(what, call))) return false;
        for (auto const i : before) all_[i].durable = true;
        return true;
    }
    /// A call that makes what is left durable: what was lost meanwhile it need not tell of.
    template <class Call>
    void settle_what_is_left(char const* what, Call const& call) {
        std::vector<std::size_t> before;
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (all_[i].counts()) before.push_back(i);
        if (!answered(what, tried(what, call))) return;
        for (auto const i : before) all_[i].durable = all_[i].durable || !all_[i].read_back_failed;
    }
    template <class Call>
    void settle(char const* what, Call const& call) {
        static_cast<void>(settles(what, call));
    }
    void merge() {
        if constexpr (!is_log) settle_what_is_left("compact", [this] { return store_->compact(); });
    }
    void idle() {
        static_cast<void>(tried("housekeep", [this] {
            store_->housekeep(true);
            return true;
        }));
    }
    void close() {
        closing_ = true;
        auto const answer = settles("close", [this] { return store_->close(); });
        closed_ = closed_ || answer || store_->state() == keel::engine_state::closed;
        closed_in_order_ = answer;
    }
    void destroy() {
        refused_memory::counted const now;
        store_.reset();
    }
    void reopen(act how) {
        if (how == act::reopen) {
            if (!store_->close()) complain("cannot be closed");
            for (auto& w : all_) w.durable = w.durable || w.now == standing::accepted;
        } else {
            store_->abandon();
        }
        store_.reset();
        if (how == act::reopen_damaged) damage();
        auto options = run_options();
        options.recovery_threads = 3;
        options.open_files = open_files_;
        if (how == act::reopen_damaged) options.verify = keel::verify_depth::deep;
        auto opened = tried("open", [&] { return Store::open("store", options, fs_); });
        if (answered("open", opened)) store_ = std::make_unique<Store>(std::move(**opened));
    }
    /// The oldest record of the oldest segment: it was written first.
    void damage() {
        damaged_ = true;
        all_.front().released = true;
        for (auto const& path : disk_.files())
            if (path.ends_with(".seg")) {
                auto const place = run_frames_begin + keel::format::frame_bytes(keel::format::mark_bytes) +
                                   keel::format::frame_header_bytes;
                if (!disk_.corrupt(path, place, std::byte{1})) complain("cannot be damaged");
                return;
            }
    }

    // ---- reading --------------------------------------------------------------------------------------------------------------

    /// What a reader saw stays; on the written path it is durable by then.
    void saw(std::size_t number) {
        auto& w = all_[number];
        w.seen = true;
        if (!mapped) w.durable = true;
    }
    [[nodiscard]] std::vector<std::size_t> visible_now() const {
        std::vector<std::size_t> out;
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (all_[i].counts() && !all_[i].read_back_failed && !all_[i].released) out.push_back(i);
        return out;
    }
    void read() {
        if constexpr (!is_log)
            for (std::size_t i = all_.size(); i-- > 0;) {
                bool const must = all_[i].counts() && !all_[i].read_back_failed && !all_[i].released;
                auto const own = all_[i].operations.front();
                auto const got = tried("get", [&] { return store_->get(own.key); });
                if (!answered("get", got)) continue;
                if (**got && ***got == own.value) saw(i);
                else if (must) complain("get(" + own.key + ") does not give what was visible before");
            }
    }
    void scan() {
        auto const must = visible_now();
        auto const found = tried("scan", [this] { return contents_of(*store_); });
        if (found && !*found && is_log && found->error().code == keel::errc::not_found) return; // given up meanwhile
        if (!answered("scan", found)) return;
        for (auto const i : must)
            if (!all_[i].released && !(*found)->contains(all_[i].own_key()))
                complain("a scan does not give " + all_[i].own_key() + ", which was visible before");
        auto const now = all_;
        for (std::size_t i = 0; i < now.size(); ++i) {
            bool const there = (*found)->contains(now[i].own_key());
            for (auto const& op : now[i].operations)
                if (op.key == now[i].own_key() + "b" && !now[i].released && (*found)->contains(op.key) != there)
                    complain("a scan gives half a batch: " + now[i].own_key());
            if (there) saw(i);
        }
    }
    /// Reads through it do not change.
    void take_snapshot() {
        if constexpr (!is_log) {
            auto const held = tried("snapshot", [this] { return store_->snapshot(); });
            if (!held) return;
            auto const before = tried("get", [&] { return store_->get("shared", *held); });
            write({}, before_thread + 1);
            auto const behind = tried("get", [&] { return store_->get("shared", *held); });
            if (answered("get", before) && answered("get", behind) && **before != **behind)
                complain("a snapshot has changed");
        }
    }
    void follow() {
        if constexpr (is_log) {
            auto reader = store_->read_from(keel::lsn{1});
            for (;;) {
                auto const begun = turns::now();
                auto const record = tried("follow", [&] { return reader.next(std::chrono::hours{1}); });
                if (!answered("follow", record)) return;
                if (**record) {
                    see(std::string{keel::as_text((**record)->value)});
                    continue;
                }
                if (closed_ && turns::now() - begun >= std::chrono::hours{1})
                    complain("a reader that waits for the tail of the log sleeps on after close()");
                return;
            }
        }
    }
    void see(std::string const& text) {
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (text.starts_with(all_[i].own_key() + "=")) saw(i);
    }
    void truncate() {
        if constexpr (is_log) {
            std::uint64_t upto = 0;
            for (auto& w : all_) {
                if (!w.own_key().starts_with("k" + std::to_string(before_thread) + ".")) continue;
                w.released = true;
                upto = std::max(upto, w.last_lsn);
            }
            static_cast<void>(answered("truncate_before", tried("truncate_before", [&] {
                                           return store_->truncate_before(keel::lsn{upto + 1});
                                       })));
        }
    }

    // ---- the end --------------------------------------------------------------------------------------------------------------

    void note(std::string const& trouble) {
        if (!trouble.empty()) complain(trouble);
    }
    void check_serving() {
        auto const found = contents_of(*store_);
        if (!found) return complain("serving: cannot be read: " + keel::to_string(found.error()));
        if (auto t = judge{all_, *found, state_of::serving}.run(); !t.empty()) return complain("serving: " + t);
        if (auto t = gets_differ(*store_, *found); !t.empty()) complain("serving: " + t);
    }
    /// "lost: LSN 3 to 7" in the reason: only what could not be read back may be among them.
    void losses_are_explained(std::string const& reason) {
        auto const at = reason.find("lost: LSN");
        if (at == std::string::npos || damaged_) return;
        if (std::ranges::none_of(all_, &one_write::read_back_failed))
            complain("names a loss that no fault explains: " + reason.substr(at));
    }
    void become_writable() {
        if (store_->state() != keel::engine_state::read_only) return;
        auto const why = store_->state_reason();
        if (faults_.only_space()) {
            turns::doing("housekeeping once there is room");
            for (int i = 0; i < 3 && store_->state() == keel::engine_state::read_only; ++i) store_->housekeep(true);
            if (store_->state() == keel::engine_state::read_only)
                complain("stays read-only after a full disk has passed: " + why);
            return;
        }
        turns::doing("resuming");
        if (auto const done = store_->resume(); !done)
            complain("resume() fails on a machine that works: " + keel::to_string(done.error()) +
                     "; read-only for: " + why);
    }
    void write_once_more() {
        turns::doing("writing once more");
        auto const before = all_.size();
        write({}, before_thread + 2);
        if (all_[before].now != standing::accepted)
            return complain("cannot be written to on a machine that works; " + store_->state_reason());
        note(judge_lsns(all_, false));
    }
    [[nodiscard]] bool is_explained_loss(keel::error const& why) const {
        return why.code == keel::errc::io_error && why.at && std::ranges::any_of(all_, &one_write::read_back_failed);
    }
    void close_at_end() {
        turns::doing("closing");
        // A loss is told by the close, too, unless somebody said that it is known.
        if (auto const done = store_->close(); !done && !is_explained_loss(done.error()))
            return complain("cannot be closed on a machine that works: " + keel::to_string(done.error()));
        for (auto& w : all_)
            if (w.counts() && !w.read_back_failed) w.durable = true;
        closed_ = closed_in_order_ = true;
    }

    disk_type disk_;
    scheduled_disk& fs_;
    std::unique_ptr<Store> store_{};
    writes all_;
    fault_driver faults_;
    std::string trouble_{};
    std::uint64_t answers_ = 0;
    std::uint64_t moment_ = 0;
    keel::lsn conflict_{}; ///< the newest record that a commit was refused for
    bool tells_;
    bool damaged_ = false;
    std::uint64_t open_files_ = 0;
    bool closing_ = false;
    bool closed_ = false;          ///< close() has returned,
    bool closed_in_order_ = false; ///< and said that all is well
};

} // namespace schedules

#endif
