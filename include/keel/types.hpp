// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TYPES_HPP
#define KEEL_TYPES_HPP

// The small types that every other header uses: LSNs, segment ids, views of bytes.

#if __cplusplus < 202002L
#error "keel needs C++20: compile with -std=c++20 or later. What the compiler says after this follows from it."
#elif !defined(__cpp_exceptions)
#error "keel needs exceptions: memory that is refused is a std::bad_alloc. Compile without -fno-exceptions."
#elif __SIZEOF_POINTER__ < 8
#error "keel needs a 64-bit target: it maps files of several GiB."
#endif

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>

/// keel, an embedded key-value store. The inline namespace v0 carries the major version of the library.
namespace keel::inline v0 {

/// Bytes in a kibibyte, mebibyte and gibibyte.
/// @{
inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;
/// @}

/// Bytes to be read. The view does not own them; it is valid as long as the owner keeps them.
using byte_view = std::span<const std::byte>;
/// Bytes to be written to. The span does not own them; it is valid as long as the owner keeps them.
using byte_span = std::span<std::byte>;

/// The text as bytes. Valid as long as the text.
[[nodiscard]] inline byte_view as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
/// The bytes as text. Valid as long as the bytes.
[[nodiscard]] inline std::string_view as_text(byte_view bytes) noexcept {
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// A key or a value that a call reads, given as text or as bytes. It converts from every type that converts to std::string_view and from
/// spans of bytes, so one call may mix the two. It does not own the bytes; it is valid as long as the owner keeps them.
class slice {
public:
    /// The empty slice.
    constexpr slice() noexcept = default;
    /// Refers to the text.
    template <class Text>
        requires std::convertible_to<Text const&, std::string_view>
    constexpr slice(Text const& text) noexcept(noexcept(std::string_view{text})) : text_{std::string_view{text}} {}
    /// Refers to the bytes.
    template <class Bytes>
        requires(!std::convertible_to<Bytes const&, std::string_view> && std::convertible_to<Bytes const&, byte_view>)
    slice(Bytes const& bytes) noexcept : text_{as_text(byte_view{bytes})} {}

    /// The bytes as text.
    [[nodiscard]] constexpr std::string_view text() const noexcept { return text_; }
    /// The same as bytes.
    [[nodiscard]] byte_view bytes() const noexcept { return as_bytes(text_); }
    /// The number of bytes.
    [[nodiscard]] constexpr std::size_t size() const noexcept { return text_.size(); }
    /// Whether there are no bytes.
    [[nodiscard]] constexpr bool empty() const noexcept { return text_.empty(); }

private:
    std::string_view text_{};
};

/// A range of keys or values, each text or bytes. The elements stay valid for the duration of the call that reads them.
template <class Range>
concept slice_range = std::ranges::forward_range<Range> &&
                      std::convertible_to<std::ranges::range_reference_t<Range>, slice> &&
                      (std::is_lvalue_reference_v<std::ranges::range_reference_t<Range>> ||
                       std::ranges::borrowed_range<std::remove_cvref_t<std::ranges::range_reference_t<Range>>> ||
                       std::same_as<std::remove_cvref_t<std::ranges::range_reference_t<Range>>, slice>);

/// The type of `durable`.
struct durable_t {
    /// Explicit, so that `{}` does not select an overload for durable writes.
    explicit durable_t() = default;
};
/// Asks a write to survive power loss before it returns, under any durability policy: `db.put(key, value, keel::durable)`.
inline constexpr durable_t durable{};

/// Log sequence number: the place of one record in the write history. The first record has 1. 0 means "none". LSNs increase strictly and
/// without gaps, apart from ranges that were declared lost. A durable LSN is never used again.
struct lsn {
    std::uint64_t value = 0; ///< the number

    /// Compares the numbers.
    constexpr auto operator<=>(lsn const&) const noexcept = default;
    /// The LSN after this one.
    [[nodiscard]] constexpr lsn next() const noexcept { return {value + 1}; }
    /// The LSN before this one; lsn_max for 0.
    [[nodiscard]] constexpr lsn before() const noexcept { return {value - 1}; }
    /// Whether the LSN names a record.
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value != 0; }
};

/// The largest LSN that a record can have. A store that writes a billion records a second reaches it after 146 years. A larger number on
/// disk is damage.
inline constexpr lsn lsn_highest{std::uint64_t{1} << 62};
/// Above every LSN: the open end of a range.
inline constexpr lsn lsn_max{std::numeric_limits<std::uint64_t>::max()};

/// The LSNs from `first` to `last`, both included. The range is empty if last < first.
struct lsn_range {
    lsn first{1}; ///< the first LSN of the range
    lsn last{0};  ///< the last LSN of the range

    /// Compares `first`, then `last`.
    constexpr auto operator<=>(lsn_range const&) const noexcept = default;
    /// Whether the range has no LSN.
    [[nodiscard]] constexpr bool empty() const noexcept { return last < first; }
    /// The number of LSNs in the range.
    [[nodiscard]] constexpr std::uint64_t size() const noexcept { return empty() ? 0 : last.value - first.value + 1; }
    /// Whether the LSN is in the range.
    [[nodiscard]] constexpr bool contains(lsn at) const noexcept { return first <= at && at <= last; }
};

/// Names one life of one segment file. Each life gets the next number, so a recycled file has a new id. 0 means "none".
struct segment_id {
    std::uint64_t value = 0; ///< the number

    /// Compares the numbers.
    constexpr auto operator<=>(segment_id const&) const noexcept = default;
    /// Whether the id names a segment.
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value != 0; }
};

/// Names a checksum algorithm on disk by four letters. An id never changes its meaning: a changed algorithm gets a new id.
struct checksum_id {
    std::uint32_t value = 0; ///< the four letters, the first in the lowest byte

    /// Compares the numbers.
    constexpr auto operator<=>(checksum_id const&) const noexcept = default;

    /// `checksum_id::of("crc3")`: the id that stands on disk as these four letters.
    [[nodiscard]] static constexpr checksum_id of(char const (&letters)[5]) noexcept {
        auto const byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(letters[i])); };
        return {byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24};
    }
};

} // namespace keel::inline v0

#endif
