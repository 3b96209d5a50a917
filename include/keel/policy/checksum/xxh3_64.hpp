// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_XXH3_64_HPP
#define KEEL_POLICY_CHECKSUM_XXH3_64_HPP

// XXH3, 64 bits, seed 0, by xxHash: for stores that want 64 bits of checksum at the speed of memory. Needs xxhash.h (0.8 or newer),
// nothing to link: xxHash is compiled in, with the vectors the compiler may use (-mavx2 doubles its speed on long runs).

#include <keel/policy/checksum/concept.hpp>

#ifdef XXH_INLINE_ALL
#include <xxhash.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#undef XXH_INLINE_ALL
#endif

#include <array>
#include <cstring>

namespace keel::inline v0::checksum {

/// A model of checksum_policy: 64 bits. Misses a random damage once in 2^64; unlike a CRC it promises nothing about bursts. An object
/// takes 900 bytes; one that sums a short record touches little more of them than the record has.
class xxh3_64 {
public:
    static constexpr checksum_id id = checksum_id::of("xxh3");
    static constexpr std::string_view name = "xxh3_64";

    /// Not defaulted: `xxh3_64{}` would then clear all of it, which costs as much as a short record's sum.
    xxh3_64() noexcept {}
    void update(byte_view bytes) noexcept;
    [[nodiscard]] std::uint64_t value() const noexcept;

private:
    std::size_t pending_bytes_ = 0;
    bool overflowed_ = false; // what came so far is in the run, and nothing is pending
    /// A short input waits here for value(): xxHash sums it in one call faster than piece by piece.
    alignas(64) std::array<std::byte, 256> pending_;
    XXH3_state_t run_;
};

inline void xxh3_64::update(byte_view bytes) noexcept {
    if (!overflowed_ && bytes.size() <= pending_.size() - pending_bytes_) {
        if (!bytes.empty()) std::memcpy(pending_.data() + pending_bytes_, bytes.data(), bytes.size());
        pending_bytes_ += bytes.size();
        return;
    }
    if (!overflowed_) {
        XXH3_64bits_reset(&run_);
        XXH3_64bits_update(&run_, pending_.data(), pending_bytes_);
        overflowed_ = true;
    }
    XXH3_64bits_update(&run_, bytes.data(), bytes.size());
}

inline std::uint64_t xxh3_64::value() const noexcept {
    if (overflowed_) return XXH3_64bits_digest(&run_);
    return pending_bytes_ == 0 ? XXH3_64bits("", 0) : XXH3_64bits(pending_.data(), pending_bytes_);
}

static_assert(checksum_policy<xxh3_64>);

} // namespace keel::inline v0::checksum

#endif
