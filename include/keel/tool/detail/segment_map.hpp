// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_SEGMENT_MAP_HPP
#define KEEL_TOOL_DETAIL_SEGMENT_MAP_HPP

// A picture of the log: one row for each segment, one cell for a number of bytes, with the damage marked. Letters have all information;
// colours repeat it.

#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/survey.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// The contents of a cell, the most important one last. A cell with several shows the last of them.
enum class cell : std::uint8_t { unused, header, records, torn, damage };

struct cell_look {
    char letter;
    style how;
    std::string_view meaning;
};
inline constexpr std::array<cell_look, 5> cell_looks{{{'.', style::grey, "unused"},
                                                      {'h', style::blue, "header or footer"},
                                                      {'#', style::green, "records"},
                                                      {'~', style::yellow, "torn tail"},
                                                      {'X', style::red, "damage"}}};

class segment_map {
public:
    static constexpr std::size_t cells_max = 48;
    static constexpr std::size_t rows_max = 32;

    /// `width`: the columns of the terminal; 0: no limit. Space is left for the name of the file and its LSNs.
    explicit segment_map(survey const& s, std::size_t width = 0) : survey_{s} {
        constexpr std::size_t beside = 40;
        constexpr std::size_t cells_min = 16;
        auto const cells = width == 0 ? cells_max : std::clamp(width - std::min(width, beside), cells_min, cells_max);
        std::uint64_t longest = 0;
        for (auto const& segment : s.exam.stock.segments) longest = std::max(longest, bytes_of(segment));
        while (cell_bytes_ * cells < longest) cell_bytes_ *= 2;
        group_findings();
    }

    void print(console& to) const {
        auto const& segments = survey_.exam.stock.segments;
        if (segments.empty()) return;
        to.out << '\n' << to.paint(style::bold, "map") << "  one cell is " << human_bytes(cell_bytes_) << ':';
        for (auto i = cell_looks.rbegin(); i != cell_looks.rend(); ++i)
            to.out << ' ' << to.paint(i->how, std::string(1, i->letter)) << ' ' << i->meaning
                   << (i + 1 == cell_looks.rend() ? "\n" : ",");
        auto const rows = choose_rows();
        for (auto const i : rows) print_row(to, i);
        if (rows.size() < segments.size()) {
            auto const left_out = segments.size() - rows.size();
            to.out << "  (" << counted(left_out, "segment") << " not shown; those with findings come first)\n";
        }
    }

    /// The letters in the row of one segment.
    [[nodiscard]] std::string letters(std::size_t index) const {
        std::string text;
        for (auto const c : cells(index)) text += cell_looks[static_cast<std::size_t>(c)].letter;
        return text;
    }

private:
    [[nodiscard]] static std::uint64_t bytes_of(recovery::found_segment const& s) noexcept {
        return s.present ? s.file_bytes : s.entry.size;
    }

    void group_findings() {
        auto const& stock = survey_.exam.stock;
        std::map<std::string, std::size_t> index;
        for (std::size_t i = 0; i < stock.segments.size(); ++i)
            index.emplace(stock.paths.inside(stock.segments[i].path), i);
        of_segment_.resize(stock.segments.size());
        for (auto const& f : survey_.findings)
            if (auto const at = index.find(f.file); at != index.end()) of_segment_[at->second].push_back(&f);
    }

    /// The segments to show, in the order of the log: those with findings, and then the oldest, up to rows_max.
    [[nodiscard]] std::vector<std::size_t> choose_rows() const {
        std::vector<std::size_t> rows;
        for (bool const with_findings : {true, false})
            for (std::size_t i = 0; i < of_segment_.size() && rows.size() < rows_max; ++i)
                if (of_segment_[i].empty() != with_findings) rows.push_back(i);
        std::ranges::sort(rows);
        return rows;
    }

    [[nodiscard]] std::vector<cell> cells(std::size_t index) const {
        auto const& segment = survey_.exam.stock.segments[index];
        auto const size = bytes_of(segment);
        std::vector<cell> row(static_cast<std::size_t>((size + cell_bytes_ - 1) / cell_bytes_), cell::unused);
        auto const fill = [&](std::uint64_t begin, std::uint64_t end, cell what) {
            end = std::min(end, size);
            for (auto at = begin / cell_bytes_; at * cell_bytes_ < end; ++at)
                row[static_cast<std::size_t>(at)] = std::max(row[static_cast<std::size_t>(at)], what);
        };
        if (!segment.present) {
            fill(0, size, cell::damage);
            return row;
        }
        fill(0, format::header_bytes, cell::header);
        auto const tail = (segment.entry.seal ? 2 : 1) * std::uint64_t{format::header_bytes};
        if (size > tail) fill(size - tail, size, cell::header);
        for (auto const& e : survey_.exam.runs[index].extents) fill(e.begin, e.end, cell::records);
        for (auto const* f : of_segment_[index])
            if (f->length != 0)
                fill(f->offset, f->offset + std::min(f->length, size), f->is_corruption() ? cell::damage : cell::torn);
        return row;
    }

    void print_row(console& to, std::size_t index) const {
        auto const& segment = survey_.exam.stock.segments[index];
        auto const& run = survey_.exam.runs[index];
        auto const row = cells(index);
        to.out << "  " << printable(segment.path.substr(segment.path.rfind('/') + 1)) << "  ";
        for (std::size_t begin = 0, end = 0; begin < row.size(); begin = end) {
            while (end < row.size() && row[end] == row[begin]) ++end;
            auto const& look = cell_looks[static_cast<std::size_t>(row[begin])];
            to.out << to.paint(look.how, std::string(end - begin, look.letter));
        }
        if (run.records != 0) to.out << "  LSN " << text_of({segment.geometry.first, run.last});
        std::vector<std::string_view> kinds;
        for (auto const* f : of_segment_[index])
            if (std::ranges::find(kinds, name_of(f->kind)) == kinds.end()) kinds.push_back(name_of(f->kind));
        for (auto const kind : kinds)
            to.out << "  " << to.paint(kind == name_of(damage::torn_tail) ? style::yellow : style::red, kind);
        to.out << '\n';
    }

    survey const& survey_;
    std::uint64_t cell_bytes_ = 64;
    std::vector<std::vector<finding const*>> of_segment_{};
};

} // namespace keel::inline v0::tool::detail

#endif
