// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_GUARD_HPP
#define KEEL_IO_DETAIL_POSIX_GUARD_HPP

// The one place where bytes of a mapped file are touched. A sector that cannot be read, a file cut short, or a
// copy-on-write disk without room is a SIGBUS on the touching thread; here it becomes a return value.
//
//   touch_guarded(region, f)   runs f() in an open window: 0, or the address in the region that failed
//
// How. A handler for SIGBUS is installed once and remembers the one before it. A fault is ours when the kernel raised
// it for an address in the region of the window that this thread has open; the handler then makes the thread go on in
// `leave_window`, which jumps back to where the window was opened. Every other SIGBUS goes to the handler before, or to
// the default action.
//
// Invariants.
//  - Between opening and closing a window no frame owns anything: f and all it calls have no destructors to run, hold
//    no lock and allocate nothing. A checksum's update() is such code.
//  - The thread goes on through an ordinary return from the handler where the processor is known to us, so that signal
//    mask, alternate stack, floating-point modes and the sanitizers' bookkeeping are as before the fault.
//  - The handler reads no thread-local: in a shared object loaded late, the first use of one on a thread allocates, and
//    the fault may be another object's. A thread's window stands in a list, by thread; only the code that opens windows
//    takes a short cut.
//  - Everything here is hidden and needs nothing but itself: each program or shared object that includes keel has its
//    own handler and list, whatever visibility and processor the code around was compiled for. The handlers are
//    chained, in any order. An object with an installed handler stays in memory after dlclose(), since a later handler
//    may point to it.
//  - A forked child has the thread that forked, which had no window open, and none of the others: their windows are closed as it begins,
//    before a new thread can take one of their slots over.
//
// Out of our hands: a host that replaces the handler afterwards and does not call the one before, or blocks SIGBUS in a
// thread. Such a host takes the unmapped model.

#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <ucontext.h>
#endif

#define KEEL_DETAIL_HIDDEN __attribute__((visibility("hidden")))

namespace keel::inline v0::io::detail {

/// The addresses of one mapped file, [begin, end).
struct guarded_region {
    std::uintptr_t begin;
    std::uintptr_t end;
};

/// An open window: what it may touch, where to go on, and what went wrong.
struct guard_window {
    sigjmp_buf opened;
    guarded_region region;
    std::uintptr_t volatile fault;
};

/// Where a thread says which window it has open. Made at its first touch and never freed: a later thread with the same
/// pthread_t takes it over, so there are as many as threads lived at one time.
struct guard_slot {
    pthread_t owner;
    std::atomic<guard_window*> open{nullptr};
    guard_slot* next = nullptr;
};

KEEL_DETAIL_HIDDEN inline constinit std::atomic<guard_slot*> guard_slots{nullptr};
KEEL_DETAIL_HIDDEN inline constinit thread_local guard_slot* guard_slot_of_thread = nullptr;
KEEL_DETAIL_HIDDEN inline struct sigaction guard_previous {};

/// This thread's slot, or nullptr where it has none yet. For handlers too.
[[nodiscard]] KEEL_DETAIL_HIDDEN inline guard_slot* find_slot() noexcept {
    auto const self = ::pthread_self();
    auto* slot = guard_slots.load(std::memory_order_acquire);
    while (slot != nullptr && ::pthread_equal(slot->owner, self) == 0) slot = slot->next;
    return slot;
}

/// Ends the window: as if f() had returned, with the fault noted.
[[noreturn]] KEEL_DETAIL_HIDDEN inline void leave_window(guard_window* window) noexcept {
    siglongjmp(window->opened, 1);
}

/// Makes the interrupted thread go on in leave_window(window).
KEEL_DETAIL_HIDDEN inline void resume_outside([[maybe_unused]] void* context, guard_window* window) noexcept {
#if defined(__linux__) && defined(__x86_64__)
    // The stack is used below the red zone, and stands as it does behind a call instruction.
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    registers[REG_RSP] = ((registers[REG_RSP] - 128) & ~greg_t{15}) - 8;
    registers[REG_RDI] = reinterpret_cast<greg_t>(window);
    registers[REG_RIP] = reinterpret_cast<greg_t>(&leave_window);
#elif defined(__linux__) && defined(__aarch64__)
    auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
    machine.sp &= ~std::uint64_t{15};
    machine.regs[0] = reinterpret_cast<std::uint64_t>(window);
    machine.pc = reinterpret_cast<std::uint64_t>(&leave_window);
#else
    // Out of the handler by a jump: the mask it runs with must not stay behind, or the next fault would kill the
    // process.
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, nullptr);
    leave_window(window);
#endif
}

/// What would have happened without keel.
KEEL_DETAIL_HIDDEN inline void pass_on(int number, siginfo_t* info, void* context) noexcept {
    auto const& before = guard_previous;
    if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
        return before.sa_sigaction(number, info, context);
    bool const raised_by_kernel = info != nullptr && info->si_code > 0;
    if (before.sa_handler == SIG_IGN && !raised_by_kernel) return;
    if (before.sa_handler != SIG_IGN && before.sa_handler != SIG_DFL) return before.sa_handler(number);
    // A fault happens again on return, at the same place, and then ends the process with the right core; a signal that
    // somebody sent has to be sent again.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(number, &standard, nullptr);
    if (!raised_by_kernel) static_cast<void>(::raise(number));
}

// No sanitizer's checks inside: a handler runs where their own state may be in the middle of something.
#if defined(__clang__)
__attribute__((no_sanitize("address", "undefined")))
#else
__attribute__((no_sanitize_address, no_sanitize_undefined))
#endif
KEEL_DETAIL_HIDDEN inline void
on_bus_error(int number, siginfo_t* info, void* context) noexcept {
    auto const errno_before = errno;
    if (info != nullptr && info->si_code > 0) {
        auto const address = reinterpret_cast<std::uintptr_t>(info->si_addr);
        auto const* const slot = find_slot();
        auto* const window = slot != nullptr ? slot->open.load(std::memory_order_relaxed) : nullptr;
        if (window != nullptr && window->region.begin <= address && address < window->region.end) {
            window->fault = address;
            return resume_outside(context, window);
        }
    }
    pass_on(number, info, context);
    errno = errno_before;
}

/// Whether an address is the program's own, where that can be told: dlopen() would read its file to find that out.
[[nodiscard]] inline bool is_the_program([[maybe_unused]] void* address) noexcept {
#if defined(RTLD_DL_LINKMAP)
    Dl_info info{};
    void* map = nullptr;
    if (::dladdr1(address, &info, &map, RTLD_DL_LINKMAP) == 0 || map == nullptr) return false;
    auto const* const name = static_cast<link_map const*>(map)->l_name;
    return name != nullptr && *name == '\0';
#else
    return false;
#endif
}

/// In a forked child: the windows of threads that it does not have.
KEEL_DETAIL_HIDDEN inline void close_windows_of_others() noexcept {
    auto const self = ::pthread_self();
    for (auto* slot = guard_slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next)
        if (::pthread_equal(slot->owner, self) == 0) slot->open.store(nullptr, std::memory_order_relaxed);
}

KEEL_DETAIL_HIDDEN inline void install_guard_once() noexcept {
#if defined(RTLD_NODELETE) && defined(RTLD_NOLOAD)
    // Code that a signal may reach stays where it is. For the program itself there is nothing to do.
    Dl_info self{};
    auto* const here = reinterpret_cast<void*>(&on_bus_error);
    if (::dladdr(here, &self) != 0 && self.dli_fname != nullptr && !is_the_program(here)) {
        static_cast<void>(::dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
    }
#endif
    struct sigaction ours {};
    ours.sa_sigaction = &on_bus_error;
    // NODEFER: the handler before may itself be left by a jump. ONSTACK: the host may run on small stacks.
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    struct sigaction before {};
    ::sigaction(SIGBUS, nullptr, &before);
    // Ours already: a thread of the process that this one was forked from had come so far.
    if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction == &on_bus_error) return;
    guard_previous = before; // known before ours can run, then once more, exactly
    ::sigaction(SIGBUS, &ours, &guard_previous);
    ::pthread_atfork(nullptr, nullptr, &close_windows_of_others);
}

/// Once per program or shared object, at its first mapping. A child that is forked while another thread is in there begins anew.
KEEL_DETAIL_HIDDEN inline void install_guard() noexcept {
    static constinit pthread_once_t once = PTHREAD_ONCE_INIT;
    static_cast<void>(::pthread_once(&once, [] { install_guard_once(); }));
}

/// The first touch of a thread: it needs a slot, and there has to be a handler.
[[nodiscard]] __attribute__((noinline)) KEEL_DETAIL_HIDDEN inline guard_slot* claim_slot() {
    install_guard();
    auto* slot = find_slot();
    if (slot != nullptr) {
        slot->open.store(nullptr, std::memory_order_relaxed);
    } else {
        slot = new guard_slot{.owner = ::pthread_self()};
        slot->next = guard_slots.load(std::memory_order_relaxed);
        while (!guard_slots.compare_exchange_weak(slot->next, slot, std::memory_order_release,
                                                  std::memory_order_relaxed)) {}
    }
    return guard_slot_of_thread = slot;
}

/// Runs touch() in a window: 0, or an address it could not touch; what touch() was changing is then unspecified.
template <class Touch>
    requires std::is_trivially_destructible_v<Touch>
[[nodiscard]] __attribute__((noinline)) KEEL_DETAIL_HIDDEN std::uintptr_t touch_guarded(guarded_region region,
                                                                                        Touch const& touch) {
    // What is read after the jump was last written before the window opened, so it needs no volatile; `fault` does.
    auto* const slot = guard_slot_of_thread != nullptr ? guard_slot_of_thread : claim_slot();
    guard_window window;
    window.region = region;
    window.fault = 0;
    // A window in a window: a checksum that itself reads from a mapping.
    auto* const outer = slot->open.load(std::memory_order_relaxed);
    if (sigsetjmp(window.opened, 0) == 0) {
        slot->open.store(&window, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        touch();
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    slot->open.store(outer, std::memory_order_relaxed);
    return window.fault;
}

} // namespace keel::inline v0::io::detail

#endif
