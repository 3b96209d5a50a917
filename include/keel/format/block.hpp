// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_BLOCK_HPP
#define KEEL_FORMAT_BLOCK_HPP

// A block of a table (format/table.hpp): the payload of one frame. Entries are in key order; the versions of a key are newest first.
// All heads stand together, and all values stand together. So a look-up touches few cache lines, and a walk over keys reads no values.
//   heads | values, one behind the other | restarts, each: head offset u32, value offset u32 | bytes of all heads u32 | restarts u32
// A head: shared varint | unshared varint | value varint (2 * bytes, plus 1 for a tombstone) | age varint | unshared end of the key
//   shared: number of first bytes that the key has in common with the key before it
//   age: the LSN minus the first LSN of the table
// Every sixteenth entry is a restart: its head holds the whole key (shared is 0), so a search can begin there. A head offset counts from
// the start of the payload, a value offset from the start of the values.
// A varint holds seven bits in a byte, the lowest bits first.
// In an index block the value is the place of a block (offset u32, bytes of its frame u32). The key is the largest key in that block.
//
// The reader accepts any bytes. Bytes that contradict each other end the walk, and whole() is false from then on.

#include <keel/detail/short_text.hpp>
#include <keel/format/endian.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::format {

inline constexpr std::size_t block_restart_every = 16;
inline constexpr std::size_t restart_bytes = 8;    ///< two offsets
inline constexpr std::size_t block_tail_bytes = 8; ///< bytes of all heads, number of restarts
inline constexpr std::size_t varint_bytes_max = 10;

/// The place of a block in its file.
struct block_place {
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0; ///< of the block's frame
    bool operator==(block_place const&) const = default;
};
inline constexpr std::size_t block_place_bytes = 8;

/// Builds blocks, one after the other: add entries, write the bytes of finish(), clear(). One thread per object.
class block_builder {
public:
    /// Adds an entry. Precondition: `key` is not smaller than the key before it. Versions of one key are added newest first. `age`: the
    /// LSN minus the first LSN of the table.
    void add(std::string_view key, std::string_view value, std::uint64_t age, bool tombstone) {
        std::size_t shared = 0;
        if (count_ % block_restart_every == 0) {
            restarts_.push_back(
                {static_cast<std::uint32_t>(heads_.size()), static_cast<std::uint32_t>(values_.size())});
        } else {
            auto const most = std::min(key.size(), last_.size());
            shared = static_cast<std::size_t>(
                std::mismatch(key.begin(), key.begin() + static_cast<std::ptrdiff_t>(most), last_.begin()).first -
                key.begin());
        }
        put_varint(shared);
        put_varint(key.size() - shared);
        put_varint(value.size() << 1 | static_cast<std::uint64_t>(tombstone));
        put_varint(age);
        append(heads_, key.substr(shared));
        append(values_, value);
        last_.assign(key);
        ++count_;
    }
    /// Adds an entry of an index block: `key` is the largest key in the block at `where`.
    void add(std::string_view key, block_place where) {
        std::array<char, block_place_bytes> value{};
        auto* const at = reinterpret_cast<std::byte*>(value.data());
        store(at, where.offset);
        store(at + 4, where.bytes);
        add(key, {value.data(), value.size()}, 0, false);
    }

    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    /// Bytes that finish() would return now.
    [[nodiscard]] std::size_t size() const noexcept {
        return heads_.size() + values_.size() + restart_bytes * restarts_.size() + block_tail_bytes;
    }
    [[nodiscard]] std::string const& last_key() const noexcept { return last_; }

    /// Returns the payload, valid until clear(). To be called once for each block.
    [[nodiscard]] byte_view finish() {
        auto const heads = heads_.size();
        heads_.reserve(size());
        heads_.insert(heads_.end(), values_.begin(), values_.end());
        for (auto const& r : restarts_) {
            put_u32(r.head);
            put_u32(r.value);
        }
        put_u32(static_cast<std::uint32_t>(heads));
        put_u32(static_cast<std::uint32_t>(restarts_.size()));
        return heads_;
    }
    void clear() noexcept {
        heads_.clear();
        values_.clear();
        restarts_.clear();
        count_ = 0;
    }

private:
    struct restart {
        std::uint32_t head;
        std::uint32_t value;
    };
    static void append(std::vector<std::byte>& to, std::string_view text) {
        auto const begin = to.size();
        to.resize(begin + text.size());
        if (!text.empty()) std::memcpy(to.data() + begin, text.data(), text.size());
    }
    void put_varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) heads_.push_back(static_cast<std::byte>(value | 0x80));
        heads_.push_back(static_cast<std::byte>(value));
    }
    void put_u32(std::uint32_t value) {
        auto const begin = heads_.size();
        heads_.resize(begin + 4);
        store(heads_.data() + begin, value);
    }

    std::vector<std::byte> heads_{}; ///< after finish(): the whole payload
    std::vector<std::byte> values_{};
    std::vector<restart> restarts_{};
    std::string last_{};
    std::size_t count_ = 0;
};

/// The current key. It is built from the first bytes of the key before it and its own end. Keys up to 64 bytes need no allocation.
class key_buffer {
public:
    [[nodiscard]] std::string_view view() const noexcept { return {data(), size_}; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    void clear() noexcept { size_ = 0; }
    void assign(std::string_view text) { replace_end(0, text.data(), text.size()); }
    /// Keeps the first `shared` bytes and appends the `bytes` bytes at `end`. Precondition: size() >= shared. `readable`: number of bytes
    /// that may be read at `end`. If 8 bytes past the end are readable, no memcpy call is needed. Returns true if the key is the same as
    /// before.
    [[gnu::always_inline]] bool replace_end(std::size_t shared, char const* end, std::size_t bytes,
                                            std::size_t readable) {
        bool const as_long = shared + bytes == size_;
        if (shared + bytes <= small_size && large_.empty() && bytes + 8 <= readable) [[likely]] {
            std::uint64_t differs = 0;
            for (std::size_t i = 0; i < bytes; i += 8) {
                std::uint64_t was = 0;
                std::uint64_t now = 0;
                std::memcpy(&was, small_.data() + shared + i, 8);
                std::memcpy(&now, end + i, 8);
                std::memcpy(small_.data() + shared + i, &now, 8);
                auto const count = std::min<std::size_t>(bytes - i, 8); // bytes behind these are not part of the key
                differs |= first_bytes(was ^ now, count);
            }
            size_ = shared + bytes;
            return as_long && differs == 0;
        }
        bool const same = as_long && std::string_view{end, bytes} == view().substr(shared);
        replace_end(shared, end, bytes);
        return same;
    }
    void replace_end(std::size_t shared, char const* end, std::size_t bytes) {
        if (shared + bytes > small_size && large_.size() < shared + bytes) {
            bool const was_small = large_.empty();
            large_.resize(std::max(shared + bytes, 2 * small_size));
            if (was_small) std::memcpy(large_.data(), small_.data(), shared);
        }
        keel::detail::copy_text((large_.empty() ? small_.data() : large_.data()) + shared, end, bytes);
        size_ = shared + bytes;
    }

private:
    [[nodiscard]] char const* data() const noexcept { return large_.empty() ? small_.data() : large_.data(); }
    static constexpr std::size_t small_size = 64;
    std::array<char, small_size + 8> small_{}; // 8 more, because whole words are copied
    std::vector<char> large_{};                // in use from the first longer key on
    std::size_t size_ = 0;
};

/// Walks the entries of one payload. The payload must outlive the reader. key() is valid until the next step. value() is valid as long as
/// the payload. One thread per object.
class block_reader {
public:
    block_reader() = default;
    explicit block_reader(byte_view payload) noexcept : bytes_{payload} {
        if (!read_tail()) break_off();
    }

    void first() {
        at_ = next_ = 0;
        next_value_ = end_;
        key_.clear();
        next();
        repeats_ = false;
    }
    void next() {
        at_ = next_;
        valid_ = at_ < end_ && read();
        if (at_ < end_ && !valid_) whole_ = false;
    }
    /// Moves to the entry before the current one. From behind the last entry it moves to the last one. Cost: a walk of up to sixteen
    /// entries.
    void previous() {
        auto const here = valid_ || at_ < end_ ? at_ : end_;
        if (here == 0 || !whole_) {
            valid_ = false;
            return;
        }
        auto r = restarts_;
        while (r > 0 && restart_head(r - 1) >= here) --r;
        if (r == 0) return break_off();
        go_to_restart(r - 1);
        while (valid_ && next_ < here) next();
    }
    void last() {
        at_ = end_;
        valid_ = false;
        previous();
    }
    /// Moves to the first entry that is not before (key, age_max). Versions of the key with a larger age are newer and are skipped.
    void seek(std::string_view key, std::uint64_t age_max) {
        // Find the last restart before the target. All entries before that restart are before the target, too.
        std::uint32_t low = 0;
        auto high = restarts_;
        while (high - low > 1) {
            auto const middle = low + (high - low) / 2;
            if (!read_restart(middle)) return break_off();
            if (in_front(restart_key_, key, age_max)) low = middle;
            else high = middle;
        }
        if (restarts_ == 0) {
            valid_ = false;
            at_ = end_;
            return;
        }
        go_to_restart(low);
        if (valid_ && in_front(key_.view(), key, age_max)) pass(key, age_max);
    }

    [[nodiscard]] bool valid() const noexcept { return valid_; }
    /// False once the reader has met bytes that no builder writes.
    [[nodiscard]] bool whole() const noexcept { return whole_; }
    [[nodiscard]] std::string_view key() const noexcept { return key_.view(); }
    [[nodiscard]] std::string_view value() const noexcept { return value_; }
    [[nodiscard]] std::uint64_t age() const noexcept { return age_; }
    [[nodiscard]] bool tombstone() const noexcept { return tombstone_; }
    /// Whether the last next() moved from an entry with the same key.
    [[nodiscard]] bool repeats() const noexcept { return repeats_; }
    /// The place in an entry of an index block. Zeros if the value does not have the size of a place.
    [[nodiscard]] block_place place() const noexcept {
        if (value_.size() != block_place_bytes) return {};
        auto const* at = reinterpret_cast<std::byte const*>(value_.data());
        return {load<std::uint32_t>(at), load<std::uint32_t>(at + 4)};
    }

private:
    void break_off() noexcept {
        whole_ = valid_ = false;
        at_ = next_ = end_ = next_value_ = values_end_ = 0;
        restarts_ = 0;
    }
    [[nodiscard]] bool read_tail() noexcept {
        if (bytes_.size() < block_tail_bytes) return false;
        auto const room = bytes_.size() - block_tail_bytes;
        end_ = load<std::uint32_t>(bytes_.data() + room);
        restarts_ = load<std::uint32_t>(bytes_.data() + room + 4);
        if (restarts_ > room / restart_bytes || end_ > room - restart_bytes * restarts_) return false;
        values_end_ = room - restart_bytes * restarts_;
        return true;
    }
    [[nodiscard]] std::size_t restart_head(std::uint32_t i) const noexcept {
        return load<std::uint32_t>(bytes_.data() + values_end_ + restart_bytes * i);
    }
    void go_to_restart(std::uint32_t i) {
        auto const to = restart_head(i);
        auto const value = load<std::uint32_t>(bytes_.data() + values_end_ + restart_bytes * i + 4);
        if (to >= end_ || value > values_end_ - end_) return break_off();
        key_.clear();
        next_ = to;
        next_value_ = end_ + value;
        next();
    }
    [[nodiscard]] bool in_front(std::string_view here, std::string_view key, std::uint64_t age_max) const noexcept {
        auto const order = here.compare(key);
        return order < 0 || (order == 0 && age_ > age_max);
    }
    /// Moves from an entry before (wanted, age_max) to the first entry that is not. No key is built on the way. If an entry shares more
    /// with its predecessor than the predecessor shares with `wanted`, the comparison does not change. Otherwise its shared bytes are the
    /// first bytes of `wanted`, and only the other bytes are compared.
    void pass(std::string_view wanted, std::uint64_t age_max) {
        auto const* const all = reinterpret_cast<char const*>(bytes_.data());
        auto alike = bytes_alike(key_.view(), wanted); // of the last entry passed
        std::uint64_t size = key_.size();              // of the last entry passed
        lengths n;
        for (at_ = next_; at_ < end_; at_ = next_) {
            auto at = at_;
            if (!read_lengths(at, n) || n.shared > size || n.value > values_end_ - next_value_) {
                whole_ = false;
                break;
            }
            auto const shared = static_cast<std::size_t>(n.shared);
            std::string_view const end{all + at, static_cast<std::size_t>(n.unshared)};
            next_ = at + end.size();
            next_value_ += static_cast<std::size_t>(n.value);
            size = shared + end.size();
            if (shared > alike) continue;
            auto const rest = wanted.substr(shared);
            auto const more = bytes_alike(end, rest);
            alike = shared + more;
            bool const less = more < rest.size() && (more == end.size() || byte_of(end[more]) < byte_of(rest[more]));
            bool const same = more == rest.size() && more == end.size();
            if (less || (same && age_ > age_max)) continue;
            key_.clear();
            key_.replace_end(0, wanted.data(), shared);
            key_.replace_end(shared, end.data(), end.size());
            value_ = {all + next_value_ - n.value, static_cast<std::size_t>(n.value)};
            return;
        }
        valid_ = false;
    }
    [[nodiscard]] static unsigned char byte_of(char c) noexcept { return static_cast<unsigned char>(c); }
    [[nodiscard]] static std::size_t bytes_alike(std::string_view a, std::string_view b) noexcept {
        auto const most = std::min(a.size(), b.size());
        std::size_t i = 0;
        while (i < most && a[i] == b[i]) ++i;
        return i;
    }
    /// Reads key and age of the entry at a restart. The whole key is stored there, so nothing is copied.
    [[nodiscard]] bool read_restart(std::uint32_t i) noexcept {
        auto at = restart_head(i);
        lengths n;
        if (at >= end_ || !read_lengths(at, n) || n.shared != 0) return false;
        restart_key_ = {reinterpret_cast<char const*>(bytes_.data()) + at, static_cast<std::size_t>(n.unshared)};
        return true;
    }
    struct lengths {
        std::uint64_t shared = 0;
        std::uint64_t unshared = 0;
        std::uint64_t value = 0;
    };
    [[nodiscard]] bool get_varint(std::size_t& at, std::uint64_t& out) const noexcept {
        out = 0;
        for (unsigned shift = 0; at < end_ && shift < 7 * varint_bytes_max; shift += 7) {
            auto const b = std::to_integer<std::uint64_t>(bytes_[at++]);
            out |= (b & 0x7F) << shift;
            if (b < 0x80) return true;
        }
        return false;
    }
    /// Like get_varint(), without a check for the end. Precondition: the longest varint fits. Most varints have one or two bytes.
    [[nodiscard, gnu::always_inline]] bool take_near(std::size_t& at, std::uint64_t& out) const noexcept {
        auto const byte = [&](std::size_t i) { return std::to_integer<std::uint64_t>(bytes_[at + i]); };
        out = byte(0);
        if (out < 0x80) return ++at, true;
        if (auto const b = byte(1); b < 0x80) {
            out = (out & 0x7F) | b << 7;
            return at += 2, true;
        }
        if (auto const b = byte(2); b < 0x80) {
            out = (out & 0x7F) | (byte(1) & 0x7F) << 7 | b << 14;
            return at += 3, true;
        }
        return get_varint(at, out);
    }
    /// Reads the numbers in front of an entry's key bytes and moves `at` behind them. False if the numbers or the key bytes do not fit.
    [[nodiscard, gnu::always_inline]] bool read_lengths(std::size_t& at, lengths& n) noexcept {
        auto& [shared, unshared, value] = n;
        if (end_ - at >= 4 * varint_bytes_max) [[likely]] {
            if (!take_near(at, shared) || !take_near(at, unshared) || !take_near(at, value) || !take_near(at, age_))
                return false;
        } else if (!get_varint(at, shared) || !get_varint(at, unshared) || !get_varint(at, value) ||
                   !get_varint(at, age_)) {
            return false;
        }
        tombstone_ = (value & 1) != 0;
        value >>= 1;
        return unshared <= end_ - at;
    }
    [[nodiscard]] bool read() {
        auto at = at_;
        lengths n;
        if (!read_lengths(at, n) || n.shared > key_.size() || n.value > values_end_ - next_value_) return false;
        auto const* all = reinterpret_cast<char const*>(bytes_.data());
        repeats_ = key_.replace_end(static_cast<std::size_t>(n.shared), all + at, static_cast<std::size_t>(n.unshared),
                                    bytes_.size() - at);
        value_ = {all + next_value_, static_cast<std::size_t>(n.value)};
        next_ = at + static_cast<std::size_t>(n.unshared);
        next_value_ += static_cast<std::size_t>(n.value);
        return true;
    }

    byte_view bytes_{};
    std::size_t end_ = 0; ///< end of the heads; the values begin here
    std::size_t values_end_ = 0;
    std::uint32_t restarts_ = 0;
    std::size_t at_ = 0;   ///< offset of the current head
    std::size_t next_ = 0; ///< offset of the next head
    std::size_t next_value_ = 0;
    key_buffer key_{};
    std::string_view restart_key_{};
    std::string_view value_{};
    std::uint64_t age_ = 0;
    bool tombstone_ = false;
    bool repeats_ = false;
    bool valid_ = false;
    bool whole_ = true;
};

} // namespace keel::inline v0::format

#endif
