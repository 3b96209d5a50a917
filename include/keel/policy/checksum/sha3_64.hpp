// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_SHA3_64_HPP
#define KEEL_POLICY_CHECKSUM_SHA3_64_HPP

// SHA3-64: the first 64 bits of SHA3-256 (FIPS 202), by libcrypto. For those who are told to use SHA-3; it costs some
// fifty times as much as crc32c, and 64 bits without a key keep nobody from forging. Not part of the umbrella header: a
// program that includes it links libcrypto.

#include <keel/policy/checksum/concept.hpp>
#include <keel/policy/checksum/detail/sha3_context.hpp>

#include <array>
#include <cstring>
#include <utility>

namespace keel::inline v0::checksum {

/// A model of checksum_policy: the first 8 bytes of the digest, little-endian. Construction and copying throw
/// std::bad_alloc where libcrypto gives no context. The value of a run of more than 256 bytes needs a second context
/// for a moment; where there is none the program ends, since to go on it would have to invent a sum.
class sha3_64 {
public:
    static constexpr checksum_id id = checksum_id::of("sha3");
    static constexpr std::string_view name = "sha3_64";

    sha3_64() : context_(detail::take_sha3_context()) {}
    sha3_64(sha3_64 const& other);
    sha3_64(sha3_64&&) noexcept = default; // what is left may only be assigned to, or destroyed
    sha3_64& operator=(sha3_64 other) noexcept;
    ~sha3_64() { detail::give_back(std::move(context_)); }

    void update(byte_view bytes) noexcept;
    [[nodiscard]] std::uint64_t value() const noexcept;

private:
    [[nodiscard]] byte_view pending() const noexcept { return byte_view{pending_}.first(pending_bytes_); }

    detail::sha3_context context_;
    bool overflowed_ = false; // what came so far is in the context, and nothing is pending
    std::size_t pending_bytes_ = 0;
    /// A short run waits here for value(), which can then use the context itself rather than a costly copy of it.
    std::array<std::byte, 256> pending_;
};

inline sha3_64::sha3_64(sha3_64 const& other)
    : context_(detail::take_sha3_context()), overflowed_(other.overflowed_), pending_bytes_(other.pending_bytes_) {
    std::memcpy(pending_.data(), other.pending_.data(), pending_bytes_);
    if (overflowed_) detail::copy_sha3_run(*context_, *other.context_);
}

inline sha3_64& sha3_64::operator=(sha3_64 other) noexcept {
    std::swap(context_, other.context_);
    overflowed_ = other.overflowed_;
    pending_bytes_ = other.pending_bytes_;
    std::memcpy(pending_.data(), other.pending_.data(), pending_bytes_);
    return *this;
}

inline void sha3_64::update(byte_view bytes) noexcept {
    if (!overflowed_ && bytes.size() <= pending_.size() - pending_bytes_) {
        if (!bytes.empty()) std::memcpy(pending_.data() + pending_bytes_, bytes.data(), bytes.size());
        pending_bytes_ += bytes.size();
        return;
    }
    if (!overflowed_) {
        detail::start_sha3_run(*context_);
        detail::continue_sha3_run(*context_, pending());
        overflowed_ = true;
        pending_bytes_ = 0;
    }
    detail::continue_sha3_run(*context_, bytes);
}

inline std::uint64_t sha3_64::value() const noexcept {
    if (!overflowed_) {
        detail::start_sha3_run(*context_);
        detail::continue_sha3_run(*context_, pending());
        return detail::end_sha3_run(*context_);
    }
    auto copy = detail::take_sha3_context();
    detail::copy_sha3_run(*copy, *context_);
    auto const sum = detail::end_sha3_run(*copy);
    detail::give_back(std::move(copy));
    return sum;
}

static_assert(checksum_policy<sha3_64>);

} // namespace keel::inline v0::checksum

#endif
