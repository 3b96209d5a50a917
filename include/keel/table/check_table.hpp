// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_CHECK_TABLE_HPP
#define KEEL_TABLE_CHECK_TABLE_HPP

// Checks every byte of a table: both headers, every frame, the order of the keys, the sums in the header (records, tombstones, bytes of
// keys and of values, blocks), and whether index and filter lead to every record. It only reads. It needs memory for one read window, the index, and ten bytes for each key.

#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/key_text.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/packed_block.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// What the check of one table found.
struct table_check {
    std::uint64_t records = 0; ///< records that verify
    std::uint64_t bytes = 0;   ///< bytes checked; 0 if a stop request ended the check
    /// Empty: the table is intact, unless a stop request ended the check.
    std::vector<finding> findings{};
};

namespace detail {

/// Checks one table once.
template <checksum_policy C, compression_policy P, io::file_system Fs>
class table_checker {
public:
    table_checker(typename Fs::file const& file, std::string const& name, format::table_entry const& of)
        : name_{name}, of_{of}, in_{file, of.size} {}

    /// Calls `visit(version)` for every record that verifies, in order. A stop request ends the check early; the result then has the
    /// findings up to that point.
    template <class Visit>
    table_check run(Visit const& visit, std::stop_token const& cancel) {
        read_headers();
        auto const end = of_.size - format::header_bytes;
        for (std::uint64_t at = format::table_frames_begin; at < end;) {
            if (cancel.stop_requested()) return std::move(out_);
            at = frame_at(at, end, visit);
        }
        name_keys(of_.ends_open ? std::nullopt : std::optional{key_after(of_.largest)});
        if (header_ && out_.findings.empty() && !header_counts_right())
            complain(damage::corrupt_block, 0, format::header_bytes,
                     "the records verify one by one but are not as many, or as long, as the table's header says");
        if (header_ && out_.findings.empty()) check_index();
        out_.bytes = of_.size;
        return std::move(out_);
    }

private:
    [[nodiscard]] bool header_counts_right() const noexcept {
        auto const& h = *header_;
        return out_.records == h.records && blocks_ == h.blocks && erased_ == h.erased && key_bytes_ == h.key_bytes &&
               value_bytes_ == h.value_bytes;
    }
    void read_headers() {
        for (auto const at : {std::uint64_t{0}, of_.size - format::header_bytes}) {
            auto h = decode(at);
            if (!h && in_.reread(at, format::header_bytes)) h = decode(at);
            if (h && !header_) header_ = h;
            if (!h)
                complain(damage::header_damaged, at, format::header_bytes,
                         "a header of the table does not verify, or is another table's", outcome::healed);
        }
        if (!header_) complain(damage::headers_lost, 0, of_.size, "neither header of the table verifies");
    }
    [[nodiscard]] std::optional<format::table_header> decode(std::uint64_t at) {
        auto h = format::decode_table_header<C>(in_.at(at, format::header_bytes));
        if (h && !of_.is_of(*h)) h.reset();
        return h;
    }

    /// Checks the frame at `at`. Returns the offset of the next frame.
    template <class Visit>
    std::uint64_t frame_at(std::uint64_t at, std::uint64_t end, Visit const& visit) {
        auto seen = look(at, end);
        if (seen.state != format::frame_state::intact && end - at >= format::frame_header_bytes) {
            auto const bytes = seen.state == format::frame_state::damaged ? seen.bytes() : format::frame_header_bytes;
            if (in_.reread(at, static_cast<std::size_t>(bytes))) seen = look(at, end);
        }
        switch (seen.state) {
        case format::frame_state::intact: take(at, seen, visit); return at + seen.bytes();
        case format::frame_state::damaged:
            if (is_records(seen.header.type)) unnamed_.push_back(out_.findings.size());
            complain(damage::corrupt_block, at, seen.bytes(), kind_of(seen.header.type),
                     is_records(seen.header.type) ? outcome::reported : outcome::healed);
            return at + seen.bytes();
        default: break;
        }
        auto const next = wal::find_tag(in_, static_cast<std::uint32_t>(of_.salt), at + format::frame_alignment, end);
        bool const behind_records = header_ && at >= header_->blocks_end;
        if (!behind_records) unnamed_.push_back(out_.findings.size());
        complain(damage::corrupt_block, at, next - at, "no frame of this table begins here",
                 behind_records ? outcome::healed : outcome::reported);
        return next;
    }
    [[nodiscard]] format::frame_view look(std::uint64_t at, std::uint64_t end) {
        if (end - at < format::frame_header_bytes) return {};
        format::frame_place const place{of_.salt, at};
        auto const head = format::peek_frame(in_.at(at, format::frame_header_bytes).data(), place, end - at);
        if (head.state != format::frame_state::intact) return head;
        return format::read_frame<C>(in_.at(at, static_cast<std::size_t>(head.bytes())), place);
    }
    template <class Visit>
    void take(std::uint64_t at, format::frame_view const& seen, Visit const& visit) {
        format::block_place const place{static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(seen.bytes())};
        switch (seen.header.type) {
        case format::frame_type::block:
            walk(at, seen.bytes(), seen.payload, visit);
            blocks_seen_.push_back({last_, place});
            return;
        case format::frame_type::packed:
            if (!unpack_block(seen.payload))
                return complain(damage::corrupt_block, at, seen.bytes(), "the block verifies and cannot be unpacked");
            walk(at, seen.bytes(), raw_, visit);
            blocks_seen_.push_back({last_, place});
            return;
        case format::frame_type::filter: lines_.insert(lines_.end(), seen.payload.begin(), seen.payload.end()); return;
        case format::frame_type::fence:
            list(seen.payload, indexed_);
            fences_seen_.push_back({indexed_.empty() ? std::string{} : indexed_.back().first, place});
            return;
        case format::frame_type::root:
            list(seen.payload, tops_);
            root_ = place;
            return;
        default: complain(damage::corrupt_block, at, seen.bytes(), "a frame that no table has");
        }
    }
    [[nodiscard]] bool unpack_block(byte_view payload) {
        if constexpr (compression::unpacks_any<P>())
            return unpack<P>(payload, of_.compression, [this](std::size_t raw) {
                raw_.resize(raw);
                return byte_span{raw_};
            });
        else return false;
    }
    using places = std::vector<std::pair<std::string, format::block_place>>;
    static void list(byte_view payload, places& into) {
        format::block_reader in{payload};
        for (in.first(); in.valid(); in.next()) into.emplace_back(in.key(), in.place());
    }
    void check_index() {
        if (indexed_ != blocks_seen_ || tops_ != fences_seen_ || root_ != header_->root ||
            header_->index_blocks != fences_seen_.size())
            complain(damage::corrupt_block, header_->root.offset, header_->root.bytes,
                     "the index verifies and does not lead to every block");
        auto const wanted = header_->filter_blocks * format::table_filter_block_bytes;
        bool leads = lines_.size() == wanted;
        for (auto const hash : hashes_) {
            if (!leads || lines_.empty()) break;
            leads = format::line_allows(lines_.data() + format::filter_line(hash, header_->filter_lines()) *
                                                            format::filter_line_bytes,
                                        hash, static_cast<std::uint32_t>(header_->filter_bits));
        }
        if (!leads)
            complain(damage::corrupt_block, header_->blocks_end, header_->root.offset - header_->blocks_end,
                     "the filter verifies and denies keys that are there");
    }
    template <class Visit>
    void walk(std::uint64_t at, std::uint64_t bytes, byte_view payload, Visit const& visit) {
        ++blocks_;
        format::block_reader in{payload};
        for (in.first(); in.valid(); in.next()) {
            lsn const here{of_.lsns.first.value + in.age()};
            auto const order = out_.records == 0 ? -1 : std::string_view{last_}.compare(in.key());
            if (order > 0 || (order == 0 && here >= last_at_))
                return complain(damage::corrupt_block, at, bytes, "the records of the block are out of order");
            if (!of_.may_have(in.key()) || !of_.lsns.contains(here))
                return complain(damage::corrupt_block, at, bytes,
                                "a record of the block is outside of what the manifest says of the table");
            if (!unnamed_.empty()) [[unlikely]]
                name_keys(key_after(in.key()));
            if (order != 0) hashes_.push_back(format::filter_hash(in.key()));
            last_.assign(in.key());
            last_at_ = here;
            ++out_.records;
            erased_ += in.tombstone() ? 1U : 0U;
            key_bytes_ += in.key().size();
            value_bytes_ += in.value().size();
            visit(version{.key = in.key(), .value = in.value(), .at = here, .tombstone = in.tombstone()});
        }
        if (!in.whole()) complain(damage::corrupt_block, at, bytes, "the block verifies and holds no records");
    }
    /// Adds the lost keys to the findings of damaged blocks: keys behind the last record that was read and in front of `to`.
    void name_keys(std::optional<std::string> const& to) {
        if (unnamed_.empty()) return;
        auto const keys = format::text_of_keys(out_.records == 0 ? of_.smallest : last_, to);
        for (auto const n : std::exchange(unnamed_, {})) out_.findings[n].detail += ": " + keys;
    }
    /// True also for packed blocks that this compression policy cannot unpack.
    [[nodiscard]] static bool is_records(format::frame_type type) noexcept {
        return type == format::frame_type::block || type == format::frame_type::packed;
    }
    [[nodiscard]] static std::string kind_of(format::frame_type type) {
        switch (type) {
        case format::frame_type::filter: return "a filter block does not verify; look-ups do without it";
        case format::frame_type::fence:
        case format::frame_type::root:
            return "a block of the index does not verify; it is made anew from the records when it is needed";
        default: return "the block does not verify; the keys in it have no answer";
        }
    }
    void complain(damage kind, std::uint64_t at, std::uint64_t length, std::string detail,
                  outcome done = outcome::reported) {
        out_.findings.push_back(
            {.kind = kind, .file = name_, .offset = at, .length = length, .done = done, .detail = std::move(detail)});
    }

    std::string const& name_;
    format::table_entry const& of_;
    wal::window<typename Fs::file> in_;
    std::optional<format::table_header> header_{};
    table_check out_{};
    std::vector<std::byte> raw_{}; ///< the unpacked payload of a packed block
    std::uint64_t blocks_ = 0;
    std::uint64_t erased_ = 0;
    std::uint64_t key_bytes_ = 0;
    std::uint64_t value_bytes_ = 0;
    std::vector<std::size_t> unnamed_{}; ///< positions of findings that do not name their lost keys yet
    std::string last_{};
    lsn last_at_{};
    places blocks_seen_{};
    places fences_seen_{};
    places indexed_{};
    places tops_{};
    format::block_place root_{};
    std::vector<std::byte> lines_{};
    std::vector<std::uint64_t> hashes_{};
};

} // namespace detail

/// Checks the whole table in `file`. The findings name the file `name`. Calls `visit(version)` for every record that verifies, in order. A
/// stop request ends the check early. Its findings are incomplete then, and the caller that requested the stop should ignore them. Errors:
/// those of file.status(). Bytes that cannot be read are findings, not errors.
template <checksum_policy C, compression_policy P, io::file_system Fs, class Visit>
[[nodiscard]] result<table_check> check_table(typename Fs::file const& file, std::string const& name,
                                              format::table_entry const& of, Visit const& visit,
                                              std::stop_token const& cancel = {}) {
    KEEL_TRY_LET(status, file.status());
    auto out = detail::table_checker<C, P, Fs>{file, name, of}.run(visit, cancel);
    if (status.size != of.size)
        out.findings.push_back({.kind = damage::wrong_size,
                                .file = name,
                                .length = status.size,
                                .detail = "is " + std::to_string(status.size) + " bytes long, " +
                                          std::to_string(of.size) + " were written"});
    return out;
}
/// The same for the table at `path`. Errors: also those of opening it.
template <checksum_policy C, compression_policy P, io::file_system Fs, class Visit>
[[nodiscard]] result<table_check> check_table(Fs fs, std::string const& path, std::string const& name,
                                              format::table_entry const& of, Visit const& visit,
                                              std::stop_token const& cancel = {}) {
    KEEL_TRY_LET(file, fs.open(path, io::access::read_only, io::creation::must_exist));
    return check_table<C, P, Fs>(file, name, of, visit, cancel);
}

} // namespace keel::inline v0::table

#endif
