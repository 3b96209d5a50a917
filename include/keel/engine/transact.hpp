// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_TRANSACT_HPP
#define KEEL_ENGINE_TRANSACT_HPP

// engine::transact() and engine::update(): a function runs in a transaction, and runs again in a new one where another commit came first.
//
// A new transaction begins behind the record that the last one met: begin() waits until that is visible. So each round of conflicts lets one
// commit through and costs one sync. The pause before each further run doubles and is a random part of that, so that threads that met at one
// key do not meet there again at the same time.

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace keel::inline v0 {

/// How often a transaction is run again that another commit came before.
struct transact_options {
    unsigned attempts = 128;                   ///< runs of the function at most; 0 is taken as 1
    std::chrono::microseconds backoff_min{50}; ///< the longest pause before the second run; it doubles from run to run
    std::chrono::microseconds backoff_max{10'000}; ///< and is never longer than this
};

/// What a transaction's function returned in the run that was committed, and the LSN of its last write.
template <class T>
struct committed {
    T value;
    lsn at{};
};

namespace detail {

/// result<T> for a function that returns T or result<T>; T may be void.
template <class T>
struct as_result : std::type_identity<result<std::remove_cvref_t<T>>> {};
template <class T>
struct as_result<result<T>> : std::type_identity<result<T>> {};

/// What `fn` returns, as a result. Exceptions of `fn` pass.
template <class Fn, class... Args>
[[nodiscard]] auto call_for_result(Fn& fn, Args&&... args) {
    using given = std::invoke_result_t<Fn&, Args...>;
    using out = typename as_result<std::remove_cvref_t<given>>::type;
    if constexpr (std::is_void_v<given>) {
        std::invoke(fn, std::forward<Args>(args)...);
        return out{};
    } else {
        return out{std::invoke(fn, std::forward<Args>(args)...)};
    }
}

/// Runs `fn(transaction&)` and commits by `commit(transaction&)`, until no other commit came first. `begin()` gives a transaction;
/// `pause(runs, conflict)` is called before the next run, where the last one of so many met that LSN.
template <class Begin, class Fn, class Commit, class Pause>
[[nodiscard]] auto run_until_committed(Begin const& begin, Fn& fn, Commit const& commit, Pause const& pause,
                                       transact_options const& how) {
    using transaction = decltype(begin());
    using given_type = decltype(call_for_result(fn, std::declval<transaction&>()));
    using value = typename given_type::value_type;
    using out = std::conditional_t<std::is_void_v<value>, result<lsn>, result<committed<value>>>;
    for (unsigned run = 1;; ++run) {
        auto tx = begin();
        auto given = call_for_result(fn, tx);
        if (!given) return out{failure(std::move(given).error())};
        result<lsn> at = commit(tx);
        if constexpr (std::is_void_v<value>) {
            if (at) return out{*at};
        } else {
            if (at) return out{committed<value>{std::move(*given), *at}};
        }
        if (at.error().code != errc::conflict || run >= how.attempts) return out{failure(std::move(at).error())};
        pause(run, at.error().at);
    }
}

} // namespace detail

} // namespace keel::inline v0

#endif
