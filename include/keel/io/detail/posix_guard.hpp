// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_GUARD_HPP
#define KEEL_IO_DETAIL_POSIX_GUARD_HPP

// The one place where bytes of a mapped file are touched. A sector that cannot be read, a file that was cut short, or a full copy-on-write
// disk sends SIGBUS to the thread that touches the byte. Here the signal becomes a return value.
//
//   touch_guarded(region, f)   runs f() in an open window. Returns 0, or the address in the region that failed
//
// How it works. A handler for SIGBUS is installed once. It remembers the handler that was installed before. A fault is ours if the kernel
// raised it for an address in the region of the window that this thread has open. Then the handler makes the thread continue in
// `leave_window`, which jumps back to where the window was opened. Every other SIGBUS goes to the previous handler, or to the default
// action.
//
// Invariants.
//  - While a window is open no frame owns anything: f and the functions that it calls have no destructors to run, hold no lock and allocate
//    nothing. update() of a checksum is such code.
//  - On processors that keel knows, the thread continues through an ordinary return from the handler. So signal mask, alternate stack,
//    floating-point modes and the state of the sanitizers are as before the fault.
//  - The handler reads no thread-local variable. In a shared object that was loaded late, the first use of one on a thread allocates
//    memory, and the fault may belong to another object. The windows of threads are in a list, one slot for each thread. Only the code that
//    opens windows uses a thread-local shortcut.
//  - Everything here is hidden and depends on nothing else. Each program or shared object that includes keel has its own handler and list,
//    for any visibility and processor that the surrounding code was compiled for. The handlers are chained, in any order. A shared object
//    with an installed handler stays in memory after dlclose(), because a later handler may point to it.
//  - A forked child has only the thread that forked, and that thread had no window open. The windows of all other threads are closed when
//    the child begins, before a new thread can reuse one of their slots.
//
// Not handled: a host that installs its own handler later and does not call the previous one, or that blocks SIGBUS in a thread. Such a
// host uses the unmapped model.

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

/// An open window: the region it may touch, the place to jump back to, and the address of the fault (0: none).
struct guard_window {
    sigjmp_buf opened;
    guarded_region region;
    std::uintptr_t volatile fault;
};

/// The slot of a thread: the window that the thread has open. It is created at the thread's first touch and never freed. A later thread
/// with the same pthread_t reuses it. So there are as many slots as threads that lived at the same time.
struct guard_slot {
    pthread_t owner;
    std::atomic<guard_window*> open{nullptr};
    guard_slot* next = nullptr;
};

KEEL_DETAIL_HIDDEN inline constinit std::atomic<guard_slot*> guard_slots{nullptr};
KEEL_DETAIL_HIDDEN inline constinit thread_local guard_slot* guard_slot_of_thread = nullptr;
KEEL_DETAIL_HIDDEN inline struct sigaction guard_previous {};

/// The slot of this thread, or nullptr if it has none yet. May be called in a signal handler.
[[nodiscard]] KEEL_DETAIL_HIDDEN inline guard_slot* find_slot() noexcept {
    auto const self = ::pthread_self();
    auto* slot = guard_slots.load(std::memory_order_acquire);
    while (slot != nullptr && ::pthread_equal(slot->owner, self) == 0) slot = slot->next;
    return slot;
}

/// Ends the window as if f() had returned. The window has the address of the fault.
[[noreturn]] KEEL_DETAIL_HIDDEN inline void leave_window(guard_window* window) noexcept {
    siglongjmp(window->opened, 1);
}

/// Makes the interrupted thread continue in leave_window(window).
KEEL_DETAIL_HIDDEN inline void resume_outside([[maybe_unused]] void* context, guard_window* window) noexcept {
#if defined(__linux__) && defined(__x86_64__)
    // Use the stack below the red zone, aligned as it is after a call instruction.
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
    // Leave the handler by a jump. The handler's signal mask must not stay: the next fault would kill the process.
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, nullptr);
    leave_window(window);
#endif
}

/// Handles the signal as if keel were not there.
KEEL_DETAIL_HIDDEN inline void pass_on(int number, siginfo_t* info, void* context) noexcept {
    auto const& before = guard_previous;
    if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
        return before.sa_sigaction(number, info, context);
    bool const raised_by_kernel = info != nullptr && info->si_code > 0;
    if (before.sa_handler == SIG_IGN && !raised_by_kernel) return;
    if (before.sa_handler != SIG_IGN && before.sa_handler != SIG_DFL) return before.sa_handler(number);
    // After return a fault happens again at the same place, and then ends the process with the right core. A signal that was sent by a
    // process must be sent again.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(number, &standard, nullptr);
    if (!raised_by_kernel) static_cast<void>(::raise(number));
}

// No sanitizer checks inside: the fault may have interrupted the sanitizer while it changed its own state.
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

/// Whether an address belongs to the program itself, if that can be found out. For the program dlopen() would read its file again.
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

/// Called in a forked child: closes the windows of threads that do not exist there.
KEEL_DETAIL_HIDDEN inline void close_windows_of_others() noexcept {
    auto const self = ::pthread_self();
    for (auto* slot = guard_slots.load(std::memory_order_acquire); slot != nullptr; slot = slot->next)
        if (::pthread_equal(slot->owner, self) == 0) slot->open.store(nullptr, std::memory_order_relaxed);
}

KEEL_DETAIL_HIDDEN inline void install_guard_once() noexcept {
#if defined(RTLD_NODELETE) && defined(RTLD_NOLOAD)
    // Code that a signal may call must stay in memory. The program itself always does.
    Dl_info self{};
    auto* const here = reinterpret_cast<void*>(&on_bus_error);
    if (::dladdr(here, &self) != 0 && self.dli_fname != nullptr && !is_the_program(here)) {
        static_cast<void>(::dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
    }
#endif
    struct sigaction ours {};
    ours.sa_sigaction = &on_bus_error;
    // SA_NODEFER: the previous handler may be left by a jump. SA_ONSTACK: the host may run on small stacks.
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    struct sigaction before {};
    ::sigaction(SIGBUS, nullptr, &before);
    // Our handler is there already: this process was forked while a thread of the parent was in here.
    if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction == &on_bus_error) return;
    guard_previous = before; // set before our handler can run; then set again, exactly
    ::sigaction(SIGBUS, &ours, &guard_previous);
    ::pthread_atfork(nullptr, nullptr, &close_windows_of_others);
}

/// Installs the handler once per program or shared object, at its first mapping. If a child is forked while another thread is in here, the
/// child starts again.
KEEL_DETAIL_HIDDEN inline void install_guard() noexcept {
    static constinit pthread_once_t once = PTHREAD_ONCE_INIT;
    static_cast<void>(::pthread_once(&once, [] { install_guard_once(); }));
}

/// Called at the first touch of a thread: gives it a slot, and makes sure that the handler is installed.
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

/// Runs touch() in a window. Returns 0, or an address that could not be touched. After a fault the bytes that touch() was changing are
/// unspecified.
template <class Touch>
    requires std::is_trivially_destructible_v<Touch>
[[nodiscard]] __attribute__((noinline)) KEEL_DETAIL_HIDDEN std::uintptr_t touch_guarded(guarded_region region,
                                                                                        Touch const& touch) {
    // Variables that are read after the jump were last written before the window opened, so they need no volatile. `fault` needs it.
    auto* const slot = guard_slot_of_thread != nullptr ? guard_slot_of_thread : claim_slot();
    guard_window window;
    window.region = region;
    window.fault = 0;
    // The thread may have a window open already: a checksum may itself read from a mapping.
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
