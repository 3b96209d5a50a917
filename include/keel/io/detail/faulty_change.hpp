// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_FAULTY_CHANGE_HPP
#define KEEL_IO_DETAIL_FAULTY_CHANGE_HPP

// Writes and stores of a faulty file system (io/fault.hpp), with the fault that hits them.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/fault_control.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

inline void flip_one_bit(byte_span bytes, seeded& random) noexcept {
    auto const bit = random.below(bytes.size() * 8);
    bytes[static_cast<std::size_t>(bit / 8)] ^= std::byte{1} << static_cast<int>(bit % 8);
}

/// The offset to which a misdirected write of `length` bytes goes. It lies within the first `size` bytes if another place fits there,
/// otherwise behind.
[[nodiscard]] inline std::uint64_t misdirected(std::uint64_t offset, std::uint64_t length, std::uint64_t size,
                                               seeded& random) noexcept {
    auto const first = offset % 512;
    auto const places = first + length <= size ? (size - length - first) / 512 + 1 : 0;
    auto const mine = offset / 512;
    if (places > (mine < places ? 1U : 0U)) {
        auto const chosen = random.below(mine < places ? places - 1 : places);
        return first + 512 * (chosen >= mine ? chosen + 1 : chosen);
    }
    return offset + 512 * (1 + random.below(8));
}

/// Makes a change, with or without a fault. It serves writes and stores. `Target` has path, identity, size() (bytes there now), fixed
/// (cannot grow), put(offset, bytes) and get(offset, span).
template <class Target>
class faulty_change {
public:
    faulty_change(fault_control& control, Target target) : control_{control}, target_{target} {}

    [[nodiscard]] result<void> operator()(std::optional<fault_hit> hit, std::uint64_t offset, byte_view bytes) {
        if (!hit || bytes.empty()) return plain(offset, bytes);
        switch (hit->kind) {
        case fault_kind::short_write: return cut_short(*hit, offset, bytes);
        case fault_kind::flip_write: return flipped(*hit, offset, bytes);
        case fault_kind::lose_write: control_.note(*hit, target_.path, offset); return {};
        case fault_kind::misdirect_write: return elsewhere(*hit, offset, bytes);
        case fault_kind::repeat_write: return repeated(*hit, offset, bytes);
        default: return control_.refuse(*hit, target_.path, offset);
        }
    }

private:
    [[nodiscard]] result<void> plain(std::uint64_t offset, byte_view bytes) {
        KEEL_TRY(target_.put(offset, bytes));
        control_.remember(target_.identity, offset, bytes);
        return {};
    }

    [[nodiscard]] result<void> cut_short(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        auto const kept = bytes.first(static_cast<std::size_t>(hit.random.below(bytes.size())));
        KEEL_TRY(plain(offset, kept));
        return control_.refuse(hit, target_.path, offset);
    }

    [[nodiscard]] result<void> flipped(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        std::vector<std::byte> wrong{bytes.begin(), bytes.end()};
        flip_one_bit(wrong, hit.random);
        KEEL_TRY(plain(offset, wrong));
        control_.note(hit, target_.path, offset);
        return {};
    }

    [[nodiscard]] result<void> elsewhere(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        KEEL_TRY_LET(size, target_.size());
        auto const wrong = misdirected(offset, bytes.size(), size, hit.random);
        if (target_.fixed && wrong + bytes.size() > size) return plain(offset, bytes);
        KEEL_TRY(target_.put(wrong, bytes));
        control_.note(hit, target_.path, offset);
        return {};
    }

    [[nodiscard]] result<void> repeated(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        auto older = control_.older_writes(target_.identity);
        KEEL_TRY(plain(offset, bytes));
        std::erase_if(older, [this](auto const& w) { return !overwritten(w); });
        if (older.empty()) return {};
        auto const& back = older[static_cast<std::size_t>(hit.random.below(older.size()))];
        KEEL_TRY(target_.put(back.offset, back.bytes));
        control_.note(hit, target_.path, back.offset);
        return {};
    }

    /// Whether the bytes at the place of the write differ from it now. Repeating it has an effect only then.
    [[nodiscard]] bool overwritten(fault_control::old_write const& w) {
        std::vector<std::byte> now(w.bytes.size());
        return target_.get(w.offset, now) && now != w.bytes;
    }

    fault_control& control_;
    Target target_;
};

} // namespace keel::inline v0::io::detail

#endif
