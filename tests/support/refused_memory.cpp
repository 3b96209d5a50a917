// SPDX-License-Identifier: BSL-1.0
#include "refused_memory.hpp"

#include "turns.hpp"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

namespace keel::test::refused_memory {
namespace {

bool counting = false;
std::uint64_t refused_from = 0;
std::uint64_t refused_count = 0;
std::uint64_t number = 0;
std::uint64_t refusals = 0;
bool tells = false;
thread_local int counted_scopes = 0;
thread_local int uncounted_scopes = 0;

[[nodiscard]] bool is_refused() noexcept {
    if (!counting || uncounted_scopes != 0 || (counted_scopes == 0 && !turns::started_by_another()) ||
        turns::keeping_books())
        return false;
    ++number;
    bool const no = refused_from != 0 && number >= refused_from && number - refused_from < refused_count;
    refusals += no;
    if (no && tells) {
        ++uncounted_scopes;
        std::printf("      allocation %llu is refused: %s\n", static_cast<unsigned long long>(number),
                    turns::place_in_program().c_str());
        --uncounted_scopes;
    }
    return no;
}
} // namespace

void plan(std::uint64_t at, std::uint64_t count) noexcept {
    counting = true;
    refused_from = at;
    refused_count = count;
    number = 0;
    refusals = 0;
}
void no_plan() noexcept {
    plan(0, 0);
    counting = false;
}
void tell(bool yes) noexcept { tells = yes; }
std::uint64_t asked() noexcept { return number; }
std::uint64_t refused() noexcept { return refusals; }

counted::counted() noexcept { ++counted_scopes; }
counted::~counted() { --counted_scopes; }
void begin_uncounted() noexcept { ++uncounted_scopes; }
void end_uncounted() noexcept { --uncounted_scopes; }

/// Not inlined: a compiler that sees free() behind a new warns.
[[gnu::noinline]] void* allocate(std::size_t bytes) noexcept {
    return is_refused() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void* allocate(std::size_t bytes, std::align_val_t alignment) noexcept {
    auto const unit = static_cast<std::size_t>(alignment);
    return is_refused() ? nullptr : std::aligned_alloc(unit, (bytes + unit) / unit * unit);
}
[[gnu::noinline]] void release(void* at) noexcept { std::free(at); }

template <class... Alignment>
[[nodiscard]] void* allocate_or_throw(std::size_t bytes, Alignment... alignment) {
    if (void* const got = allocate(bytes, alignment...)) return got;
    throw std::bad_alloc{};
}

} // namespace keel::test::refused_memory

void* operator new(std::size_t bytes) { return keel::test::refused_memory::allocate_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return keel::test::refused_memory::allocate_or_throw(bytes); }
void* operator new(std::size_t bytes, std::align_val_t a) {
    return keel::test::refused_memory::allocate_or_throw(bytes, a);
}
void* operator new[](std::size_t bytes, std::align_val_t a) {
    return keel::test::refused_memory::allocate_or_throw(bytes, a);
}
void* operator new(std::size_t bytes, std::nothrow_t const&) noexcept {
    return keel::test::refused_memory::allocate(bytes);
}
void* operator new[](std::size_t bytes, std::nothrow_t const&) noexcept {
    return keel::test::refused_memory::allocate(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t a, std::nothrow_t const&) noexcept {
    return keel::test::refused_memory::allocate(bytes, a);
}
void* operator new[](std::size_t bytes, std::align_val_t a, std::nothrow_t const&) noexcept {
    return keel::test::refused_memory::allocate(bytes, a);
}
void operator delete(void* at) noexcept { keel::test::refused_memory::release(at); }
void operator delete[](void* at) noexcept { keel::test::refused_memory::release(at); }
void operator delete(void* at, std::size_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete[](void* at, std::size_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete(void* at, std::align_val_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete[](void* at, std::align_val_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete[](void* at, std::size_t, std::align_val_t) noexcept { keel::test::refused_memory::release(at); }
void operator delete(void* at, std::nothrow_t const&) noexcept { keel::test::refused_memory::release(at); }
void operator delete[](void* at, std::nothrow_t const&) noexcept { keel::test::refused_memory::release(at); }
void operator delete(void* at, std::align_val_t, std::nothrow_t const&) noexcept {
    keel::test::refused_memory::release(at);
}
void operator delete[](void* at, std::align_val_t, std::nothrow_t const&) noexcept {
    keel::test::refused_memory::release(at);
}
