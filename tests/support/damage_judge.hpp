// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_DAMAGE_JUDGE_HPP
#define KEEL_TESTS_SUPPORT_DAMAGE_JUDGE_HPP

// What must hold when a damaged store is opened, whatever the damage: the referee of all damage tests. It knows what was put and
// asks the report what was lost; the two together say exactly what must be served.

#include "support/damage_tools.hpp"

#include <string>
#include <vector>

namespace keel::test {

/// What one kind of damage may do at most, and must show at least.
struct expectation {
    lsn_range may_lose{};        ///< LSNs that only the damaged bytes hold
    bool must_be_noticed = true; ///< some finding, or an error
    bool all_accounted = true;   ///< every LSN ever acknowledged is served or declared lost
};

/// Collects what went wrong, with enough to repeat it.
class complaints {
public:
    void add(std::string what) {
        ++count_;
        if (texts_.size() < 5) texts_.push_back(std::move(what));
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] std::string text() const {
        std::string all = std::to_string(count_) + " complaint(s)";
        for (auto const& t : texts_) all += "\n- " + t;
        return all;
    }

private:
    std::uint64_t count_ = 0;
    std::vector<std::string> texts_{};
};

namespace detail {

[[nodiscard]] inline std::uint64_t size_of(std::vector<lsn_range> const& ranges) noexcept {
    std::uint64_t n = 0;
    for (auto const& r : ranges) n += r.size();
    return n;
}

template <class Engine>
[[nodiscard]] std::string judge_opened(Engine const& store, history const& past, repair_strategy how,
                                       expectation const& may) {
    auto const& r = store.recovery();
    auto const& lost = r.lost_lsn_ranges;
    auto const n = past.last();
    if (content_of(store) != past.without(lost, r.last_lsn))
        return "serves something else than the history without what is declared lost";
    if (may.all_accounted) {
        if (r.records + size_of(lost) != n.value)
            return "does not account for all " + std::to_string(n.value) + " records";
        if (r.last_lsn != n && (lost.empty() || lost.back().last < n)) return "the end is gone without a word";
    }
    if (how == repair_strategy::refuse && !lost.empty()) return "opened although the policy refuses";
    if (how != repair_strategy::rollback)
        for (auto const& l : lost)
            if (l.first < may.may_lose.first || l.last > may.may_lose.last)
                return "lost LSN " + std::to_string(l.first.value) + " to " + std::to_string(l.last.value) +
                       ", which lie outside of the damage";
    if (r.lost_records != 0 && lost.empty()) return "counts losses that it does not name";
    if (may.must_be_noticed && r.findings.empty()) return "did not notice";
    if (!lost.empty() && store.state() == engine_state::healthy) return "lost records and calls itself healthy";
    if (r.replayed_records != r.records) return "replayed other records than it counted";
    return {};
}

} // namespace detail

/// Opens the damaged disk (which changes it) and judges what comes of it. Gives what is wrong; empty where all is well.
template <class Engine = small_engine>
[[nodiscard]] std::string judge(io::memory disk, history const& past, repair_strategy how, expectation const& may,
                                bool reopen = false) {
    auto store = Engine::open(store_folder, quiet_options(how), disk);
    if (!store) {
        auto const& e = store.error();
        bool const may_refuse = how == repair_strategy::refuse && e.code == errc::corruption && !may.may_lose.empty();
        if (!may_refuse) return "open failed: " + to_string(e);
        return e.message.empty() ? "an error without words" : "";
    }
    auto wrong = detail::judge_opened(*store, past, how, may);
    if (!wrong.empty()) return wrong + "\n  " + describe(store->recovery());
    if (!reopen) {
        store->abandon();
        return {};
    }
    auto const before = content_of(*store);
    store->abandon();
    auto again = Engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    if (!again) return "what was repaired is refused at the next open: " + to_string(again.error());
    if (content_of(*again) != before) return "the next open serves something else\n  " + describe(again->recovery());
    again->abandon();
    return {};
}

/// The same with a write in between: what was repaired can be written to, and the write is there at the next open.
template <class Engine = small_engine>
[[nodiscard]] std::string judge_writable(io::memory disk, repair_strategy how) {
    auto store = Engine::open(store_folder, quiet_options(how), disk);
    if (!store) return how == repair_strategy::refuse ? "" : "open failed: " + to_string(store.error());
    if (store->state() == engine_state::read_only) return {};
    auto expected = content_of(*store);
    for (int i = 0; i < 3; ++i) {
        auto const value = std::string(200, static_cast<char>('a' + i));
        if (auto const put = store->put("written after", value); !put) return "a put failed: " + to_string(put.error());
        expected["written after"] = value;
    }
    store->abandon();
    auto again = Engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    if (!again) return "what was repaired and written to is refused at the next open: " + to_string(again.error());
    if (content_of(*again) != expected)
        return "after a write the next open serves something else\n  " + describe(again->recovery());
    again->abandon();
    return {};
}

} // namespace keel::test

#endif
