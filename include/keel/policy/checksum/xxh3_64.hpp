// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_XXH3_64_HPP
#define KEEL_POLICY_CHECKSUM_XXH3_64_HPP

// XXH3, 64 bits, seed 0: the same value as XXH3_64bits() of xxHash, for stores that want 64 bits of checksum at the
// speed of memory. The width of its vectors is chosen at run time. Needs no library, and lives beside any use of
// xxhash.h in the same program.

#include <keel/policy/checksum/concept.hpp>
#include <keel/policy/checksum/detail/xxh3_mix.hpp>
#include <keel/policy/checksum/detail/xxh3_stripes.hpp>

#include <array>
#include <cstring>

namespace keel::inline v0::checksum {

/// A model of checksum_policy: 64 bits. Misses a random damage once in 2^64; unlike a CRC it promises nothing about
/// bursts. An object takes 384 bytes; one that sums a short record touches little more of them than the record has.
class xxh3_64 {
public:
    static constexpr checksum_id id = checksum_id::of("xxh3");
    static constexpr std::string_view name = "xxh3_64";

    /// Not defaulted: `xxh3_64{}` would then clear the buffer, which costs as much as a short record's sum.
    xxh3_64() noexcept {}
    void update(byte_view bytes) noexcept;
    [[nodiscard]] std::uint64_t value() const noexcept;

private:
    [[nodiscard]] bool overflowed() const noexcept { return total_ != pending_bytes_; }
    void keep(byte_view bytes) noexcept;
    void add(byte_view bytes) noexcept;

    /// Bytes not added yet. Once it has overflowed there is always one, because the input's last stripe is not added
    /// like the others; and up to 192 of them leave its last 64 bytes to those that came before the pending ones.
    alignas(64) std::array<std::byte, 256> pending_;
    detail::xxh3_sums sums_; // of what overflowed
    std::size_t pending_bytes_ = 0;
    std::size_t stripe_in_block_ = 0;
    std::uint64_t total_ = 0;
};

inline void xxh3_64::update(byte_view bytes) noexcept {
    if (bytes.size() > pending_.size() - pending_bytes_) return add(bytes);
    total_ += bytes.size();
    keep(bytes);
}

inline std::uint64_t xxh3_64::value() const noexcept {
    if (total_ <= detail::xxh3_short_bytes_max) return detail::xxh3_of_short(pending_.data(), pending_bytes_);
    constexpr auto stripe = detail::xxh3_stripe_bytes;
    auto const path = detail::xxh3_current_path();
    auto sums = overflowed() ? sums_ : detail::xxh3_start;
    if (pending_bytes_ >= stripe) {
        auto at = stripe_in_block_;
        detail::xxh3_add_stripes(path, sums, at, pending_.data(), (pending_bytes_ - 1) / stripe);
        return detail::xxh3_finish(path, sums, pending_.data() + pending_bytes_ - stripe, total_);
    }
    std::array<std::byte, stripe> last;
    auto const before = stripe - pending_bytes_;
    std::memcpy(last.data(), pending_.data() + pending_.size() - before, before);
    std::memcpy(last.data() + before, pending_.data(), pending_bytes_);
    return detail::xxh3_finish(path, sums, last.data(), total_);
}

inline void xxh3_64::keep(byte_view bytes) noexcept {
    if (!bytes.empty()) std::memcpy(pending_.data() + pending_bytes_, bytes.data(), bytes.size());
    pending_bytes_ += bytes.size();
}

/// More bytes than there is room for: adds the full buffer, then from where they stand whatever stripes need not be
/// kept.
inline void xxh3_64::add(byte_view bytes) noexcept {
    constexpr auto stripe = detail::xxh3_stripe_bytes;
    auto const path = detail::xxh3_current_path();
    if (!overflowed()) sums_ = detail::xxh3_start;
    total_ += bytes.size();
    if (pending_bytes_ != 0) {
        auto const room = pending_.size() - pending_bytes_;
        keep(bytes.first(room));
        bytes = bytes.subspan(room);
        detail::xxh3_add_stripes(path, sums_, stripe_in_block_, pending_.data(), pending_.size() / stripe);
        pending_bytes_ = 0;
    }
    if (bytes.size() > pending_.size()) {
        auto const stripes = (bytes.size() - 1) / stripe;
        detail::xxh3_add_stripes(path, sums_, stripe_in_block_, bytes.data(), stripes);
        bytes = bytes.subspan((stripes - 1) * stripe);
        std::memcpy(pending_.data() + pending_.size() - stripe, bytes.data(), stripe);
        bytes = bytes.subspan(stripe);
    }
    keep(bytes);
}

static_assert(checksum_policy<xxh3_64>);

} // namespace keel::inline v0::checksum

#endif
