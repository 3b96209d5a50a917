// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_TRANSACT_HPP
#define KEEL_ENGINE_TRANSACT_HPP

// engine::transact() and engine::update() run a function in a transaction. If another commit came first, they run it again in a new one.
//
// The new transaction must see the record that the last one conflicted with: begin() waits until that record is visible. So each round of
// conflicts lets one commit through and costs one sync. There is a pause before each further run. Its maximum doubles from run to run, and
// the pause is a random part of the maximum, so that threads that conflicted at a key do not conflict there again at the same time.

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace keel::inline v0 {

/// How often, and after which pauses, a function runs again because another commit came first.
struct transact_options {
    unsigned attempts = 128;                   ///< most runs of the function; 0 counts as 1
    std::chrono::microseconds backoff_min{50}; ///< maximum of the pause before the second run; doubles with each run
    std::chrono::microseconds backoff_max{10'000}; ///< no pause is longer than this
};

/// The result of a transaction's function in the run that was committed, and the LSN of the last write of that run.
template <class T>
struct committed {
    T value;  ///< the value that the function returned
    lsn at{}; ///< the LSN of the last write
};

namespace detail {

/// result<T> for a function that returns T or result<T>; T may be void.
template <class T>
struct as_result : std::type_identity<result<std::remove_cvref_t<T>>> {};
template <class T>
struct as_result<result<T>> : std::type_identity<result<T>> {};

/// Calls `fn` and returns its result as a result<T>. Exceptions of `fn` are not caught.
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

/// Runs `fn(transaction&)` and commits with `commit(transaction&)`, until no other commit came first or how.attempts runs were made.
/// `begin()` makes a transaction. `pause(runs, conflict)` is called before each further run: `runs` is the number of runs so far,
/// `conflict` the LSN that the last run conflicted with. Errors: those of `fn` and of `commit`.
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
