// SPDX-License-Identifier: BSL-1.0
#include "turns_round.hpp"

// What a thread that takes part may wait in, and how it gets there from std:: (seen in the built programs, GCC 12 and Clang 14 with
// libstdc++):
//   std::mutex                       pthread_mutex_lock, _trylock, _unlock, called from the program itself
//   std::condition_variable          pthread_cond_wait, _signal, _broadcast from libstdc++.so; pthread_cond_clockwait (steady clock) and
//                                    pthread_cond_timedwait (system clock) from the program itself
//   std::condition_variable_any      a mutex and a condition_variable of its own
//   std::thread, std::jthread        pthread_create, pthread_join from libstdc++.so
//   std::atomic::wait, semaphores, the end of a stop_callback, the first call of a function with a static local
//                                    syscall(SYS_futex)
//   sleep_for                        nanosleep
//   steady_clock, system_clock       clock_gettime from libstdc++.so
// A function that the program defines takes the place of the library's for all callers, because the linker exports what a library it
// links against asks for. The library's own is found by dlsym(RTLD_NEXT); with sanitizers theirs comes first.
//
// Nothing here waits by these functions itself: turns are handed over by semaphores.

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dlfcn.h>
#include <execinfo.h>
#include <linux/futex.h>
#include <memory>
#include <optional>
#include <pthread.h>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

// Sanitizers have these in front of the library's, in the program itself (Clang) or in a library of theirs (GCC).
extern "C" {
[[gnu::weak]] int __interceptor_pthread_create(pthread_t*, pthread_attr_t const*, void* (*)(void*), void*);
[[gnu::weak]] int __interceptor_pthread_join(pthread_t, void**);
[[gnu::weak]] int __interceptor_clock_gettime(clockid_t, timespec*);
}

namespace keel::test::turns {
namespace {

/// A function of the library in front of which one of the same name stands below. Looked up when it is first called, which may be before
/// this program's own variables are made.
template <class F>
class in_library {
public:
    constexpr explicit in_library(char const* name, F* known = nullptr) noexcept : name_{name}, found_{known} {}
    template <class... Arguments>
    auto operator()(Arguments... a) noexcept {
        auto* f = found_.load(std::memory_order_relaxed);
        if (f == nullptr) {
            f = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name_));
            if (f == nullptr) std::abort();
            found_.store(f, std::memory_order_relaxed); // all who look find the same
        }
        return f(a...);
    }

private:
    char const* name_;
    std::atomic<F*> found_;
};

constinit in_library<int(pthread_mutex_t*)> library_lock{"pthread_mutex_lock"};
constinit in_library<int(pthread_mutex_t*)> library_trylock{"pthread_mutex_trylock"};
constinit in_library<int(pthread_mutex_t*)> library_unlock{"pthread_mutex_unlock"};
constinit in_library<int(pthread_cond_t*, pthread_mutex_t*)> library_wait{"pthread_cond_wait"};
constinit in_library<int(pthread_cond_t*, pthread_mutex_t*, timespec const*)> library_timedwait{
    "pthread_cond_timedwait"};
constinit in_library<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, timespec const*)> library_clockwait{
    "pthread_cond_clockwait"};
constinit in_library<int(pthread_cond_t*)> library_signal{"pthread_cond_signal"};
constinit in_library<int(pthread_cond_t*)> library_broadcast{"pthread_cond_broadcast"};
constinit in_library<int(pthread_t*, pthread_attr_t const*, void* (*)(void*), void*)> library_create{
    "pthread_create", __interceptor_pthread_create};
constinit in_library<int(pthread_t, void**)> library_join{"pthread_join", __interceptor_pthread_join};
constinit in_library<int(clockid_t, timespec*)> library_clock{"clock_gettime", __interceptor_clock_gettime};
constinit in_library<int(timespec const*, timespec*)> library_sleep{"nanosleep"};
constinit in_library<int(clockid_t, int, timespec const*, timespec*)> library_clock_sleep{"clock_nanosleep"};
constinit in_library<long(long, ...)> library_syscall{"syscall"};

/// The calling thread, where it takes part.
thread_local member* self = nullptr;
/// Keeping books: its calls and waits are not part of the run.
thread_local bool inside = false;

/// What threads that take part take for the beginning of a run.
constexpr std::int64_t steady_begin_s = 1'000;
constexpr std::int64_t system_begin_s = 1'700'000'000;
constexpr std::int64_t ns_of_s = 1'000'000'000;

[[nodiscard]] std::chrono::nanoseconds since_begin(timespec const& at, clockid_t clock) noexcept {
    auto const begin = clock == CLOCK_REALTIME ? system_begin_s : steady_begin_s;
    return std::chrono::nanoseconds{(static_cast<std::int64_t>(at.tv_sec) - begin) * ns_of_s + at.tv_nsec};
}
[[nodiscard]] timespec clock_at(std::chrono::nanoseconds since, clockid_t clock) noexcept {
    auto const begin = clock == CLOCK_REALTIME ? system_begin_s : steady_begin_s;
    return {.tv_sec = static_cast<time_t>(begin + since.count() / ns_of_s), .tv_nsec = since.count() % ns_of_s};
}

[[nodiscard]] std::chrono::nanoseconds length_of(timespec const& t) noexcept {
    return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

/// The member that calls, unless it keeps books.
[[nodiscard]] member* caller() noexcept { return inside ? nullptr : self; }

class bookkeeping {
public:
    bookkeeping() noexcept { inside = true; }
    bookkeeping(bookkeeping const&) = delete;
    bookkeeping& operator=(bookkeeping const&) = delete;
    ~bookkeeping() { inside = false; }
};

int take_mutex(member& me, pthread_mutex_t* m) noexcept {
    for (;;) {
        auto const got = library_trylock(m);
        if (got == 0) me.of->owns(m, me);
        if (got != EBUSY) return got;
        static_cast<void>(me.of->wait(me, waiting_for::mutex, m));
    }
}
int lock_in_turn(member& me, pthread_mutex_t* m) noexcept {
    bookkeeping const now;
    return take_mutex(me, m);
}
/// Whether somebody has waited for it.
bool give_mutex(member& me, pthread_mutex_t* m) noexcept {
    static_cast<void>(library_unlock(m));
    me.of->gives(m);
    return me.of->wake(waiting_for::mutex, m, threads_max) != 0;
}
int unlock_in_turn(member& me, pthread_mutex_t* m) noexcept {
    bookkeeping const now;
    // Who has waited for it may have it before this thread asks for it again.
    if (give_mutex(me, m)) static_cast<void>(me.of->pass(me));
    return 0;
}
int wait_in_turn(member& me, pthread_cond_t* c, pthread_mutex_t* m, std::optional<std::chrono::nanoseconds> until) {
    bookkeeping const now;
    static_cast<void>(give_mutex(me, m));
    bool const woken = me.of->wait(me, waiting_for::condition, c, until);
    static_cast<void>(take_mutex(me, m));
    return woken ? 0 : ETIMEDOUT;
}
int sleep_in_turn(member& me, std::chrono::nanoseconds until) {
    bookkeeping const now;
    static_cast<void>(me.of->wait(me, waiting_for::time, nullptr, until));
    return 0;
}

/// The part of a futex call that the library uses.
long futex_in_turn(member& me, std::uint32_t* word, int operation, long value) {
    bookkeeping const now;
    auto const kind = operation & FUTEX_CMD_MASK;
    if (kind == FUTEX_WAKE || kind == FUTEX_WAKE_BITSET)
        return static_cast<long>(me.of->wake(waiting_for::word, word, static_cast<std::size_t>(value)));
    if (kind != FUTEX_WAIT && kind != FUTEX_WAIT_BITSET) std::abort();
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != static_cast<std::uint32_t>(value)) {
        errno = EAGAIN;
        return -1;
    }
    static_cast<void>(me.of->wait(me, waiting_for::word, word));
    return 0;
}

std::uint64_t threads_refused_from = 0;
std::uint64_t threads_refused_most = 0;
std::uint64_t threads_asked = 0;
std::uint64_t threads_refused = 0;

/// The whole life of a thread in its run.
template <class Body>
auto take_part(member& me, Body const& body) {
    self = &me;
    me.of->begin(me);
    auto const result = body();
    self = nullptr; // what the thread's own variables do at its end takes no part
    me.of->end(me);
    return result;
}
void* run_started(void* argument) {
    auto& me = *static_cast<member*>(argument);
    return take_part(me, [&] { return me.body(me.argument); });
}

int start_in_turn(member& me, pthread_t* handle, pthread_attr_t const* how, void* (*body)(void*), void* argument) {
    bookkeeping const now;
    if (++threads_asked >= threads_refused_from && threads_asked - threads_refused_from < threads_refused_most) {
        ++threads_refused;
        return EAGAIN;
    }
    auto& started = me.of->add("started by " + std::to_string(me.number));
    started.body = body;
    started.argument = argument;
    auto const done = library_create(&started.handle, how, run_started, &started);
    if (done != 0) me.of->take_back(started);
    else *handle = started.handle;
    return done;
}
int join_in_turn(member& me, pthread_t thread, void** result) {
    bookkeeping const now;
    if (auto* const other = me.of->find(thread))
        while (other->now != member::state::ended)
            static_cast<void>(me.of->wait(me, waiting_for::end_of_thread, other));
    return library_join(thread, result);
}

} // namespace

outcome run(std::vector<task> tasks, io::schedule const& order, std::function<void(step const&)> before_call) {
    auto all = std::make_unique<round>(order, std::move(before_call));
    for (auto const& t : tasks) static_cast<void>(all->add(t.name));
    std::vector<std::thread> threads;
    auto const shared = std::make_shared<std::vector<task> const>(std::move(tasks));
    for (std::size_t i = 0; i < shared->size(); ++i)
        threads.emplace_back([&me = all->at(i), shared, i] {
            static_cast<void>(take_part(me, [&] {
                (*shared)[i].run();
                return 0;
            }));
        });
    auto out = all->wait_for_end();
    for (auto& t : threads) {
        if (out.how == ending::finished) t.join();
        else t.detach();
    }
    if (out.how != ending::finished) static_cast<void>(all.release()); // its threads stand in there
    return out;
}

void reached(io::switch_point const& point) {
    auto* const me = caller();
    if (me == nullptr) return;
    bookkeeping const now;
    me->of->reached(*me, point);
}

void refuse_threads(std::uint64_t at, std::uint64_t count) noexcept {
    threads_refused_from = at;
    threads_refused_most = at == 0 ? 0 : count;
    threads_asked = threads_refused = 0;
}
std::uint64_t refused_threads() noexcept { return threads_refused; }

bool taking_part() noexcept { return self != nullptr; }
bool started_by_another() noexcept { return self != nullptr && self->body != nullptr; }
bool keeping_books() noexcept { return inside; }
std::uint32_t number() { return self->number; }
std::chrono::nanoseconds now() { return self->of->time(); }
std::string place_in_program() {
    void* frames[48];
    auto const depth = backtrace(frames, 48);
    Dl_info program{};
    if (dladdr(reinterpret_cast<void*>(&taking_part), &program) == 0) return {};
    std::string text = "addr2line -Cfpie " + std::string{program.dli_fname};
    for (int i = 1; i < depth; ++i) {
        Dl_info one{};
        if (dladdr(frames[i], &one) == 0 || one.dli_fbase != program.dli_fbase) continue;
        char place[32];
        std::snprintf(place, sizeof place, " %#zx",
                      static_cast<std::size_t>(static_cast<char*>(frames[i]) - static_cast<char*>(one.dli_fbase)) - 1);
        text += place;
    }
    return text;
}
void doing(char const* what) {
    if (self != nullptr) self->doing = what;
}

// ---- in front of the library ------------------------------------------------------------------------------------------------

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* m) noexcept {
    auto* const me = caller();
    return me == nullptr ? library_lock(m) : lock_in_turn(*me, m);
}
int pthread_mutex_trylock(pthread_mutex_t* m) noexcept {
    auto const got = library_trylock(m);
    if (auto* const me = caller(); me != nullptr && got == 0) {
        bookkeeping const now;
        me->of->owns(m, *me);
    }
    return got;
}
int pthread_mutex_unlock(pthread_mutex_t* m) noexcept {
    auto* const me = caller();
    return me == nullptr ? library_unlock(m) : unlock_in_turn(*me, m);
}

int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
    auto* const me = caller();
    return me == nullptr ? library_wait(c, m) : wait_in_turn(*me, c, m, {});
}
int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, timespec const* until) {
    auto* const me = caller();
    return me == nullptr ? library_timedwait(c, m, until)
                         : wait_in_turn(*me, c, m, since_begin(*until, CLOCK_REALTIME));
}
int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock, timespec const* until) {
    auto* const me = caller();
    return me == nullptr ? library_clockwait(c, m, clock, until) : wait_in_turn(*me, c, m, since_begin(*until, clock));
}
int pthread_cond_signal(pthread_cond_t* c) noexcept {
    auto* const me = caller();
    if (me == nullptr) return library_signal(c);
    static_cast<void>(me->of->wake(waiting_for::condition, c, 1));
    return 0;
}
int pthread_cond_broadcast(pthread_cond_t* c) noexcept {
    auto* const me = caller();
    if (me == nullptr) return library_broadcast(c);
    static_cast<void>(me->of->wake(waiting_for::condition, c, threads_max));
    return 0;
}

int pthread_create(pthread_t* handle, pthread_attr_t const* how, void* (*body)(void*), void* argument) noexcept {
    auto* const me = caller();
    return me == nullptr ? library_create(handle, how, body, argument)
                         : start_in_turn(*me, handle, how, body, argument);
}
int pthread_join(pthread_t thread, void** result) {
    auto* const me = caller();
    return me == nullptr ? library_join(thread, result) : join_in_turn(*me, thread, result);
}

int clock_gettime(clockid_t clock, timespec* out) noexcept {
    auto* const me = caller();
    if (me == nullptr || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
        return library_clock(clock, out);
    *out = clock_at(me->of->look_at_clock(), clock);
    return 0;
}
int nanosleep(timespec const* length, timespec* rest) {
    auto* const me = caller();
    return me == nullptr ? library_sleep(length, rest) : sleep_in_turn(*me, me->of->time() + length_of(*length));
}
int clock_nanosleep(clockid_t clock, int how, timespec const* length, timespec* rest) {
    auto* const me = caller();
    if (me == nullptr) return library_clock_sleep(clock, how, length, rest);
    bool const absolute = (how & TIMER_ABSTIME) != 0;
    return sleep_in_turn(*me, absolute ? since_begin(*length, clock) : me->of->time() + length_of(*length));
}

// Six words are read whether they were given or not, as the library does.
__attribute__((no_sanitize("address"))) long syscall(long what, ...) noexcept {
    va_list rest;
    va_start(rest, what);
    long a[6];
    for (auto& one : a) one = va_arg(rest, long);
    va_end(rest);
    auto* const me = caller();
    if (me == nullptr || what != SYS_futex) return library_syscall(what, a[0], a[1], a[2], a[3], a[4], a[5]);
    return futex_in_turn(*me, reinterpret_cast<std::uint32_t*>(a[0]), static_cast<int>(a[1]), a[2]);
}

} // extern "C"

} // namespace keel::test::turns
