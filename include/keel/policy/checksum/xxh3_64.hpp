// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_XXH3_64_HPP
#define KEEL_POLICY_CHECKSUM_XXH3_64_HPP

// XXH3, 64 bits, seed 0, by xxHash: a checksum of 64 bits at the speed of memory. It needs xxhash.h (0.8 or newer) and no library, because
// xxHash is compiled in. It uses the vector instructions that the compiler may use; -mavx2 doubles its speed on long runs.

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

/// A model of checksum_policy with 64 bits. Misses random damage once in 2^64. Unlike a CRC it guarantees nothing about bursts. An object
/// has about 900 bytes. The sum of a short record touches few more of them than the record has.
class xxh3_64 {
public:
    /// A member that checksum_policy describes.
    /// @{
    static constexpr checksum_id id = checksum_id::of("xxh3");
    static constexpr std::string_view name = "xxh3_64";
    /// @}

    /// The state of the empty run. Not defaulted: `xxh3_64{}` would clear the whole object, which costs as much as the sum of a short
    /// record.
    xxh3_64() noexcept {}
    /// A member that checksum_policy describes.
    /// @{
    void update(byte_view bytes) noexcept;
    [[nodiscard]] std::uint64_t value() const noexcept;
    /// @}

private:
    std::size_t pending_bytes_ = 0;
    bool overflowed_ = false; // all bytes so far are in run_; pending_ is empty
    /// A short input is collected here until value(). xxHash is faster in one call than in several.
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
