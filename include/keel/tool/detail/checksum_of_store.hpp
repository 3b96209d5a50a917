// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_CHECKSUM_OF_STORE_HPP
#define KEEL_TOOL_DETAIL_CHECKSUM_OF_STORE_HPP

// Finds the checksum policy of a store in the store's own headers, so that no option has to name it.
//
// A header counts as a vote for the checksum that it names if it verifies under that checksum. The manifests are asked first, then the
// segments, then the tables; the checksum with the most votes wins. If no header verifies, each policy is tried on the segments: one
// under which a mark frame verifies is taken. A header that verifies and names another format ends the search, because the rules of this
// format do not apply to such a store.

#include <keel/config.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/sha3_64.hpp>
#include <keel/policy/checksum/xxh3_64.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/recovery/take_inventory.hpp>
#include <keel/wal/layout.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// An engine's configuration with another checksum.
template <class Config, checksum_policy C>
struct with_checksum : Config {
    using checksum = C;
};
/// The policies that an examination of a store reads. All configurations with the same three share the code.
template <checksum_policy C, compression_policy P, io::file_system Fs>
struct examining {
    using checksum = C;
    using compression = P;
    using file_system = Fs;
};

template <class... Cs>
struct checksum_list {
    static constexpr std::size_t size = sizeof...(Cs);
    static constexpr std::array<checksum_id, size> ids{checksum_id{Cs::id}...};
    static constexpr std::array<std::string_view, size> names{Cs::name...};
    template <class C>
    using with = std::conditional_t<(std::is_same_v<C, Cs> || ...), checksum_list, checksum_list<Cs..., C>>;

    /// f.template operator()<C>() with the policy of this number.
    template <class F>
    static auto call(std::size_t index, F&& f) {
        using result_type = std::common_type_t<decltype(f.template operator()<Cs>())...>;
        result_type out{};
        std::size_t i = 0;
        static_cast<void>(((i++ == index ? (out = f.template operator()<Cs>(), true) : false) || ...));
        return out;
    }
};

/// The checksums that the tool can read: that of the engine, and all that are shipped.
template <class Config>
using known_checksums =
    typename checksum_list<typename Config::checksum>::template with<checksum::crc32>::template with<
        checksum::crc32c>::template with<checksum::xxh3_64>::template with<checksum::sha3_64>;

[[nodiscard]] inline std::string letters_of(checksum_id id) {
    std::string text;
    for (int shift = 0; shift < 32; shift += 8) {
        auto const c = static_cast<char>(id.value >> shift & 0xFF);
        text += c >= ' ' && c <= '~' ? c : '?';
    }
    return text;
}

template <class Config>
class checksum_search {
public:
    using fs_type = typename Config::file_system;
    using known = known_checksums<Config>;

    checksum_search(fs_type& fs, std::string directory) : fs_{fs}, paths_{std::move(directory)} {}

    /// The number of the policy in known_checksums; that of the engine if the folder is no store. Errors: wrong_format, wrong_policy.
    result<std::size_t> run() {
        for (int i = 0; i < 2; ++i) look_at(paths_.manifest(i), format::manifest_magic, false);
        if (verified_format_) return other_format(*verified_format_);
        if (auto const found = most_voted()) return *found;
        look_at_segments();
        if (auto const found = most_voted()) return *found;
        look_at_tables();
        if (auto const found = most_voted()) return *found;
        if (verified_format_) return other_format(*verified_format_);
        if (named_format_ && !named_ours_) return other_format(*named_format_);
        if (auto const found = by_marks()) return *found;
        return by_name();
    }

private:
    void look_at_segments() {
        auto const names = fs_.list(paths_.log());
        if (!names) return;
        for (auto const& entry : *names)
            if (entry.kind == io::file_kind::regular) look_at(paths_.log_file(entry.name), format::segment_magic, true);
    }

    void look_at_tables() {
        auto const names = fs_.list(paths_.tables());
        if (!names) return;
        for (auto const& entry : *names)
            if (wal::layout::table_of(entry.name)) look_at(paths_.table_file(entry.name), format::table_magic, true);
    }

    void look_at(std::string const& path, std::uint64_t magic, bool at_the_end_too) {
        auto const file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        if (!file) return;
        look_at_block(*file, 0, magic);
        auto const status = file->status();
        if (at_the_end_too && status && status->size >= 2 * format::header_bytes)
            look_at_block(*file, status->size - format::header_bytes, magic);
    }

    void look_at_block(typename fs_type::file const& file, std::uint64_t offset, std::uint64_t magic) {
        format::header_block block{};
        auto const got = file.read(offset, block);
        if (!got || *got != block.size()) return;
        auto const kind = format::peek_file_kind(block);
        if (kind.magic != magic) return;
        auto const verifies = [&]<class C>() {
            auto const body = byte_view{block}.first(format::header_bytes - 8);
            return format::load<std::uint64_t>(block.data() + body.size()) == checksum::over<C>(body);
        };
        auto const index = index_of(kind.checksum);
        bool const good = index && known::call(*index, verifies);
        if (kind.format != format::format_number) (good ? verified_format_ : named_format_) = kind.format;
        else if (good) ++votes_[*index];
        else named_ours_ = true;
        if (kind.format == format::format_number && !index) unknown_ = kind.checksum;
        if (kind.format == format::format_number && index) named_ = index;
    }

    [[nodiscard]] static std::optional<std::size_t> index_of(checksum_id id) {
        auto const at = std::ranges::find(known::ids, id);
        if (at == known::ids.end()) return std::nullopt;
        return static_cast<std::size_t>(at - known::ids.begin());
    }
    [[nodiscard]] std::optional<std::size_t> most_voted() const {
        auto const best = std::ranges::max_element(votes_);
        if (*best == 0) return std::nullopt;
        return static_cast<std::size_t>(best - votes_.begin());
    }

    /// The policy under which an inventory finds segments without headers.
    [[nodiscard]] std::optional<std::size_t> by_marks() {
        auto const finds_segments = [&]<class C>() {
            using examined = examining<C, typename Config::compression, fs_type>;
            auto const stock = recovery::take_inventory<examined>(fs_, paths_.root());
            return stock && !stock->segments.empty();
        };
        for (std::size_t i = 0; i < known::size; ++i)
            if (known::call(i, finds_segments)) return i;
        return std::nullopt;
    }

    result<std::size_t> by_name() const {
        if (named_ || !unknown_) return named_.value_or(0);
        std::string readable;
        for (std::size_t i = 0; i < known::size; ++i)
            readable += (i == 0 ? "" : ", ") + std::string{known::names[i]} + " ('" + letters_of(known::ids[i]) + "')";
        return failure(errc::wrong_policy,
                       "the store was made with checksum '" + letters_of(*unknown_) + "', this program knows " +
                           readable + ": use a wal-recovery that was built with the store's own policies",
                       paths_.root());
    }
    result<std::size_t> other_format(std::uint32_t theirs) const {
        return failure(errc::wrong_format,
                       "the store has format " + std::to_string(theirs) + ", this program reads format " +
                           std::to_string(format::format_number) + ": use the wal-recovery of a version that knows it",
                       paths_.root());
    }

    fs_type& fs_;
    wal::layout paths_;
    std::array<std::size_t, known::size> votes_{};
    std::optional<std::uint32_t> verified_format_{};
    std::optional<std::uint32_t> named_format_{};
    std::optional<checksum_id> unknown_{};
    std::optional<std::size_t> named_{};
    bool named_ours_ = false;
};

} // namespace keel::inline v0::tool::detail

#endif
