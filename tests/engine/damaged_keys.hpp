// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_ENGINE_DAMAGED_KEYS_HPP
#define KEEL_TESTS_ENGINE_DAMAGED_KEYS_HPP

// Which keys damage may cost an answer, found by comparing the files with what they were: those of each damaged record, and those between
// the neighbours of each damaged block. Knows the formats, and nothing of the code that reads them.

#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/format/table.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/table/packed_block.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine_tests {

class damaged_keys {
public:
    [[nodiscard]] bool may_hold(std::string_view key) const {
        return everything_ ||
               std::ranges::any_of(ranges_, [key](auto const& r) { return key >= r.first && key <= r.second; });
    }

    void add_everything() { everything_ = true; }

    template <class Config>
    void compare(keel::io::memory const& before, keel::io::memory const& after) {
        for (auto const& file : before.files()) {
            auto const was = *before.contents(file);
            auto const is = *after.contents(file);
            auto const differs = [&](std::uint64_t at, std::uint64_t bytes) {
                return !std::ranges::equal(keel::byte_view{was}.subspan(at, bytes),
                                           keel::byte_view{is}.subspan(at, bytes));
            };
            if (file.ends_with(".tab")) table<Config>(was, differs);
            if (file.ends_with(".seg")) segment<Config>(was, differs);
        }
    }

private:
    using frame = keel::format::frame_view;
    template <class C, class Visit>
    static void each_frame(keel::byte_view bytes, std::uint64_t salt, std::uint64_t from, std::uint64_t to,
                           Visit const& visit) {
        for (auto at = from; at + keel::format::frame_header_bytes <= to;) {
            auto const f = keel::format::read_frame<C>(bytes.subspan(at, to - at), {salt, at});
            if (f.state != keel::format::frame_state::intact) {
                at += keel::format::frame_alignment;
                continue;
            }
            visit(at, f);
            at += f.bytes();
        }
    }
    template <class Config, class Differs>
    void table(std::vector<std::byte> const& was, Differs const& differs) {
        using C = typename Config::checksum;
        auto const h = keel::format::decode_table_header<C>(keel::byte_view{was}.first(512));
        if (!h) return;
        struct block {
            std::string first;
            std::string last;
            bool hurt;
        };
        std::vector<block> blocks;
        bool index_hurt = false;
        each_frame<C>(was, h->salt, 512, h->size - 512, [&](std::uint64_t at, frame const& f) {
            bool const hurt = differs(at, f.bytes());
            std::vector<std::byte> raw(f.payload.begin(), f.payload.end());
            if (f.header.type == keel::format::frame_type::packed) {
                if constexpr (keel::compression::unpacks_any<typename Config::compression>())
                    static_cast<void>(keel::table::unpack<typename Config::compression>(
                        f.payload, Config::compression::id, [&](std::size_t n) {
                            raw.assign(n, std::byte{});
                            return keel::byte_span{raw};
                        }));
            } else if (f.header.type != keel::format::frame_type::block) {
                index_hurt = index_hurt || hurt;
                return;
            }
            keel::format::block_reader in{raw};
            in.last();
            block b{{}, std::string{in.key()}, hurt};
            in.first();
            b.first = in.key();
            blocks.push_back(std::move(b));
        });
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            if (!blocks[i].hurt) continue;
            // Without its index a block's last key is not known either.
            bool const wide = index_hurt && i + 1 < blocks.size();
            ranges_.emplace_back(i == 0 ? blocks[i].first : blocks[i - 1].last,
                                 wide ? blocks[i + 1].first : blocks[i].last);
            if (wide && blocks[i + 1].hurt) ranges_.back().second = blocks[i + 1].last;
        }
    }
    template <class Config, class Differs>
    void segment(std::vector<std::byte> const& was, Differs const& differs) {
        using C = typename Config::checksum;
        auto const head = keel::format::decode_segment_header<C>(keel::byte_view{was}.first(512));
        if (!head.good()) return;
        auto const begin = keel::format::frames_begin(was.size());
        auto const end = keel::format::footer_offset(was.size());
        std::uint64_t data_end = begin;
        std::size_t records = 0;
        std::vector<std::pair<std::string, std::string>> hurt;
        each_frame<C>(was, head.header.salt, begin, end, [&](std::uint64_t at, frame const& f) {
            data_end = at + f.bytes();
            if (!keel::format::takes_lsn(f.header.type)) return;
            ++records;
            if (!differs(at, f.bytes())) return;
            std::string const key{keel::as_text(f.key())};
            // A long key is known by the eight bytes that the index has of it: others like it are in doubt, too.
            bool const is_long = key.size() > 12;
            hurt.emplace_back(is_long ? key.substr(0, 4) : key, is_long ? key.substr(0, 4) + "\xff" : key);
        });
        ranges_.insert(ranges_.end(), hurt.begin(), hurt.end());
        if (hurt.empty()) return;
        // Nor is the index there that knows the keys; or no record that has the bytes which all keys begin with.
        if (differs(data_end, end - data_end) || hurt.size() == records) everything_ = true;
    }

    std::vector<std::pair<std::string, std::string>> ranges_{};
    bool everything_ = false;
};

} // namespace engine_tests

#endif
