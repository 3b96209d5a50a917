// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TYPES_HPP
#define KEEL_TYPES_HPP

// The small types that every other header uses: places in the write history, names of segments, views of bytes.

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

namespace keel::inline v0 {

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;

/// Bytes somebody else owns, to be read. Valid as long as their owner says.
using byte_view = std::span<const std::byte>;
/// Bytes somebody else owns, to be filled.
using byte_span = std::span<std::byte>;

/// The bytes of a text, seen as bytes. Same lifetime as the text.
[[nodiscard]] inline byte_view as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}
/// The bytes, seen as text. Same lifetime as the bytes.
[[nodiscard]] inline std::string_view as_text(byte_view bytes) noexcept {
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// Bytes that a call reads: a key or a value, given as text or as bytes. Takes whatever converts to std::string_view, and spans of bytes,
/// so that the two may be mixed in one call. Refers to them; valid as long as they are.
class slice {
public:
    constexpr slice() noexcept = default;
    template <class Text>
        requires std::convertible_to<Text const&, std::string_view>
    constexpr slice(Text const& text) noexcept(noexcept(std::string_view{text})) : text_{std::string_view{text}} {}
    template <class Bytes>
        requires(!std::convertible_to<Bytes const&, std::string_view> && std::convertible_to<Bytes const&, byte_view>)
    slice(Bytes const& bytes) noexcept : text_{as_text(byte_view{bytes})} {}

    [[nodiscard]] constexpr std::string_view text() const noexcept { return text_; }
    [[nodiscard]] byte_view bytes() const noexcept { return as_bytes(text_); }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return text_.size(); }
    [[nodiscard]] constexpr bool empty() const noexcept { return text_.empty(); }

private:
    std::string_view text_{};
};

/// A range of keys or values, each text or bytes, that stay where they are while a call reads them.
template <class Range>
concept slice_range = std::ranges::forward_range<Range> &&
                      std::convertible_to<std::ranges::range_reference_t<Range>, slice> &&
                      (std::is_lvalue_reference_v<std::ranges::range_reference_t<Range>> ||
                       std::ranges::borrowed_range<std::remove_cvref_t<std::ranges::range_reference_t<Range>>> ||
                       std::same_as<std::remove_cvref_t<std::ranges::range_reference_t<Range>>, slice>);

/// Asks a write to survive power loss before it returns, under any durability policy: `db.put(key, value, keel::durable)`.
struct durable_t {
    explicit durable_t() = default;
};
inline constexpr durable_t durable{};

/// Log sequence number: the place of one record in the write history. The first record has 1; 0 means "none".
/// Dense (but for ranges declared lost), strictly increasing, never reused once durable.
struct lsn {
    std::uint64_t value = 0;

    constexpr auto operator<=>(lsn const&) const noexcept = default;
    [[nodiscard]] constexpr lsn next() const noexcept { return {value + 1}; }
    [[nodiscard]] constexpr lsn before() const noexcept { return {value - 1}; }
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value != 0; }
};

/// No record takes an LSN above this one: at a billion a second it lasts 146 years. A larger number on disk is damage.
inline constexpr lsn lsn_highest{std::uint64_t{1} << 62};
/// Behind every LSN: the open end of a range.
inline constexpr lsn lsn_max{std::numeric_limits<std::uint64_t>::max()};

/// LSNs from `first` to `last`, both included; empty where last < first.
struct lsn_range {
    lsn first{1};
    lsn last{0};

    constexpr auto operator<=>(lsn_range const&) const noexcept = default;
    [[nodiscard]] constexpr bool empty() const noexcept { return last < first; }
    [[nodiscard]] constexpr std::uint64_t size() const noexcept { return empty() ? 0 : last.value - first.value + 1; }
    [[nodiscard]] constexpr bool contains(lsn at) const noexcept { return first <= at && at <= last; }
};

/// Names one life of one segment file. Grows by one with each life, so a recycled file has a new id; 0 means "none".
struct segment_id {
    std::uint64_t value = 0;

    constexpr auto operator<=>(segment_id const&) const noexcept = default;
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value != 0; }
};

/// Names a checksum algorithm on disk. Four letters, stable for ever; a changed algorithm takes a new id.
struct checksum_id {
    std::uint32_t value = 0;

    constexpr auto operator<=>(checksum_id const&) const noexcept = default;

    /// `checksum_id::of("crc3")`: the id whose bytes on disk are these four letters.
    [[nodiscard]] static constexpr checksum_id of(char const (&letters)[5]) noexcept {
        auto const byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(letters[i])); };
        return {byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24};
    }
};

} // namespace keel::inline v0

#endif
