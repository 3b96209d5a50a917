// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_FOUND_DAMAGE_HPP
#define KEEL_ENGINE_FOUND_DAMAGE_HPP

// Collects the damage that readers of an open store find, and passes it on to the corruption log, the observer and the store's state. Every
// part of the store notes its findings here. Every operation that reads (get, scan, transaction, commit, merge, verify) calls tell() before
// it returns. The same damage is reported once per opening, however often it is read.
//
// Thread rules: any number of threads. m_ is held only while small containers are searched or changed. The receiver is called without m_.

#include <keel/error.hpp>
#include <keel/policy/repair/finding.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

class found_damage {
public:
    /// The functions that get the reports. Each may be empty.
    struct receiver {
        std::function<void(std::vector<finding>)> found{};
        /// A scan ended early because of this error, and its caller never asked for its status() or gaps().
        std::function<void(error const&)> scan_unchecked{};
    };

    /// Reports go to `who` from now on.
    void tell_to(receiver who) {
        std::lock_guard const hold{m_};
        to_ = std::move(who);
    }
    /// Marks findings as already reported.
    void is_known(std::vector<finding> const& told) {
        std::lock_guard const hold{m_};
        for (auto const& f : told) static_cast<void>(is_new(f));
    }
    void note(finding what) {
        std::lock_guard const hold{m_};
        if (!is_new(what)) return;
        waiting_.push_back(std::move(what));
        any_.store(true, std::memory_order_release);
    }
    /// Whether findings wait to be reported. Cheap, because every read calls it.
    [[nodiscard]] bool any() const noexcept { return any_.load(std::memory_order_acquire); }
    [[nodiscard]] std::vector<finding> take() {
        std::lock_guard const hold{m_};
        any_.store(false, std::memory_order_relaxed);
        return std::exchange(waiting_, {});
    }
    /// Reports the waiting findings. The caller must not hold a mutex that the writer needs.
    void tell() {
        if (!any()) return;
        auto const to = who();
        if (to.found) to.found(take());
    }
    void scan_unchecked(error const& why) {
        auto const to = who();
        if (to.scan_unchecked) to.scan_unchecked(why);
    }

private:
    static constexpr std::size_t findings_max = 10'000; ///< further findings are not reported; this bounds the memory

    [[nodiscard]] receiver who() const {
        std::lock_guard const hold{m_};
        return to_;
    }
    [[nodiscard]] bool is_new(finding const& f) {
        return known_.size() < findings_max && known_.emplace(f.kind, f.file, f.offset).second;
    }

    mutable std::mutex m_;
    receiver to_{};
    std::set<std::tuple<damage, std::string, std::uint64_t>> known_{};
    std::vector<finding> waiting_{};
    std::atomic<bool> any_{false}; // release: a thread that sees true finds the findings under m_
};

} // namespace keel::inline v0::detail

#endif
