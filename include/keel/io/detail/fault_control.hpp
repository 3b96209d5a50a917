// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_FAULT_CONTROL_HPP
#define KEEL_IO_DETAIL_FAULT_CONTROL_HPP

// What all handles of one faulty file system (io/fault.hpp) share: the plan, the counters of operations, the log of the faults that hit.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_choice.hpp>
#include <keel/io/fault_plan.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

/// A fault that hits the current operation.
struct fault_hit {
    fault_kind kind;
    fault_class on;
    std::uint64_t operation;
    seeded random;
};

/// The state that all handles of one faulty file system share: plan, counters, log, and older writes for repeat_write.
class fault_control {
public:
    struct old_write {
        file_identity file;
        std::uint64_t offset = 0;
        std::vector<std::byte> bytes;
    };

    void set_plan(fault_plan plan) {
        auto const guard = std::lock_guard{mutex_};
        plan_ = std::move(plan.faults);
        over_.assign(plan_.size(), false);
        counts_ = {};
        log_.clear();
        older_.clear();
    }
    [[nodiscard]] fault_plan plan() const {
        auto const guard = std::lock_guard{mutex_};
        return {plan_};
    }
    void refill() {
        auto const guard = std::lock_guard{mutex_};
        for (std::size_t i = 0; i < plan_.size(); ++i)
            if (plan_[i].kind == fault_kind::no_space && count(plan_[i].on) >= plan_[i].at) over_[i] = true;
    }
    [[nodiscard]] std::uint64_t operations(fault_class on) const {
        auto const guard = std::lock_guard{mutex_};
        return count(on);
    }
    [[nodiscard]] std::vector<fired_fault> log() const {
        auto const guard = std::lock_guard{mutex_};
        return log_;
    }

    /// Counts an operation. Returns the fault that hits it, if the plan has one that fits and is in `possible`.
    [[nodiscard]] std::optional<fault_hit> next(fault_class on, std::initializer_list<fault_kind> possible) {
        auto const guard = std::lock_guard{mutex_};
        ++counts_[static_cast<std::size_t>(fault_class::any)];
        ++counts_[static_cast<std::size_t>(on)];
        auto const operation = count(fault_class::any);
        for (std::size_t i = 0; i < plan_.size(); ++i) {
            auto const& f = plan_[i];
            if (over_[i] || (f.on != fault_class::any && f.on != on)) continue;
            auto const number = count(f.on);
            if (number < f.at || number - f.at >= f.count) continue;
            if (std::find(possible.begin(), possible.end(), f.kind) == possible.end()) continue;
            return fault_hit{f.kind, on, operation, seeded{f.seed ^ mixed(number)}};
        }
        return {};
    }

    void note(fault_hit const& hit, std::string const& path, std::uint64_t offset) {
        auto const guard = std::lock_guard{mutex_};
        log_.push_back({hit.kind, hit.on, hit.operation, path, offset});
    }

    /// Logs the fault and returns its error.
    [[nodiscard]] tl::unexpected<error> refuse(fault_hit const& hit, std::string const& path,
                                               std::uint64_t offset = 0) {
        note(hit, path, offset);
        bool const full = hit.kind == fault_kind::no_space;
        return failure(error{.code = full ? errc::no_space : errc::io_error,
                             .message = "injected fault: " + std::string{name_of(hit.kind)},
                             .file = path,
                             .offset = offset,
                             .cause = full ? ENOSPC : EIO,
                             .retryable = full});
    }

    /// Keeps a write for a later repeat_write, if the plan has such a fault.
    void remember(file_identity const& file, std::uint64_t offset, byte_view bytes) {
        auto const guard = std::lock_guard{mutex_};
        auto const repeats = [](fault const& f) { return f.kind == fault_kind::repeat_write; };
        if (bytes.empty() || std::none_of(plan_.begin(), plan_.end(), repeats)) return;
        if (older_.size() == older_max) older_.pop_front();
        older_.push_back({file, offset, {bytes.begin(), bytes.end()}});
    }
    [[nodiscard]] std::vector<old_write> older_writes(file_identity const& file) const {
        auto const guard = std::lock_guard{mutex_};
        std::vector<old_write> found;
        std::copy_if(older_.begin(), older_.end(), std::back_inserter(found),
                     [&](old_write const& w) { return w.file == file; });
        return found;
    }

private:
    static constexpr std::size_t older_max = 256;

    [[nodiscard]] std::uint64_t count(fault_class on) const noexcept { return counts_[static_cast<std::size_t>(on)]; }

    mutable std::mutex mutex_;
    std::vector<fault> plan_;
    std::vector<bool> over_; // parallel to plan_: ended by refill()
    std::array<std::uint64_t, fault_classes> counts_{};
    std::vector<fired_fault> log_;
    std::deque<old_write> older_;
};

} // namespace keel::inline v0::io::detail

#endif
