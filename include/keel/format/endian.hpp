// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_ENDIAN_HPP
#define KEEL_FORMAT_ENDIAN_HPP

// Numbers as bytes: little-endian, at any alignment. Everything on disk is written and read through here.

#include <keel/types.hpp>

#include <array>
#include <bit>
#include <concepts>
#include <cstring>

namespace keel::inline v0::format {

template <std::unsigned_integral T>
[[nodiscard]] constexpr T swapped_if_big(T value) noexcept {
    if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
        return value;
    } else {
        T out = 0;
        for (std::size_t i = 0; i < sizeof(T); ++i) out = static_cast<T>(out << 8 | (value >> (8 * i) & 0xFF));
        return out;
    }
}

/// The number at `from`; the caller has checked that sizeof(T) bytes are there.
template <std::unsigned_integral T>
[[nodiscard]] inline T load(std::byte const* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return swapped_if_big(value);
}

/// Writes the number to `to`; the caller has checked that sizeof(T) bytes are there.
template <std::unsigned_integral T>
inline void store(std::byte* to, T value) noexcept {
    value = swapped_if_big(value);
    std::memcpy(to, &value, sizeof value);
}

/// `word` holds eight bytes in their order in memory. Keeps the first `count` of them (1 to 8), shifted, and drops the others. The result
/// is 0 exactly if the kept bytes are all 0.
template <std::endian Order = std::endian::native>
[[nodiscard]] constexpr std::uint64_t first_bytes(std::uint64_t word, std::size_t count) noexcept {
    auto const others = 64 - 8 * count;
    if constexpr (Order == std::endian::little) return word << others;
    else return word >> others;
}

/// Writes fields one after the other into a span of fixed size. A field that does not fit is not written, and fits() is false from then
/// on.
class field_writer {
public:
    explicit field_writer(byte_span out) noexcept : out_{out} {}

    template <std::unsigned_integral T>
    field_writer& put(T value) noexcept {
        if (room(sizeof value)) store(out_.data() + at_, value);
        at_ += sizeof value;
        return *this;
    }
    field_writer& put(byte_view bytes) noexcept {
        if (room(bytes.size()) && !bytes.empty()) std::memcpy(out_.data() + at_, bytes.data(), bytes.size());
        at_ += bytes.size();
        return *this;
    }
    field_writer& put(lsn at) noexcept { return put(at.value); }
    field_writer& put(segment_id id) noexcept { return put(id.value); }

    [[nodiscard]] std::size_t written() const noexcept { return at_; }
    [[nodiscard]] bool fits() const noexcept { return at_ <= out_.size(); }

private:
    [[nodiscard]] bool room(std::size_t bytes) const noexcept {
        return at_ <= out_.size() && bytes <= out_.size() - at_;
    }
    byte_span out_;
    std::size_t at_ = 0;
};

/// Reads fields one after the other from a span. A read past the end gives zeros, and ok() is false from then on. So one check of ok() at
/// the end is enough.
class field_reader {
public:
    explicit field_reader(byte_view in) noexcept : in_{in} {}

    template <std::unsigned_integral T>
    [[nodiscard]] T get() noexcept {
        if (!room(sizeof(T))) return T{0};
        T const value = load<T>(in_.data() + at_);
        at_ += sizeof(T);
        return value;
    }
    template <std::size_t N>
    [[nodiscard]] std::array<std::byte, N> bytes() noexcept {
        std::array<std::byte, N> out{};
        if (room(N)) {
            std::memcpy(out.data(), in_.data() + at_, N);
            at_ += N;
        }
        return out;
    }
    [[nodiscard]] byte_view view(std::size_t length) noexcept {
        if (!room(length)) return {};
        byte_view const out = in_.subspan(at_, length);
        at_ += length;
        return out;
    }
    [[nodiscard]] lsn get_lsn() noexcept { return {get<std::uint64_t>()}; }
    [[nodiscard]] segment_id get_segment() noexcept { return {get<std::uint64_t>()}; }

    [[nodiscard]] bool ok() const noexcept { return ok_; }
    [[nodiscard]] std::size_t left() const noexcept { return in_.size() - at_; }

private:
    [[nodiscard]] bool room(std::size_t bytes) noexcept {
        ok_ = ok_ && bytes <= in_.size() - at_;
        return ok_;
    }
    byte_view in_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

[[nodiscard]] constexpr std::uint64_t rounded_up(std::uint64_t value, std::uint64_t unit) noexcept {
    return (value + unit - 1) / unit * unit;
}

} // namespace keel::inline v0::format

#endif
