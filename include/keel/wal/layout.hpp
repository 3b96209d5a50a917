// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LAYOUT_HPP
#define KEEL_WAL_LAYOUT_HPP

// Names inside the directory of a store. A file name is only a hint: the file's header tells what the file is.

#include <keel/detail/hex.hpp>
#include <keel/format/table.hpp>
#include <keel/types.hpp>

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace keel::inline v0::wal {

/// The paths of one store.
class layout {
public:
    explicit layout(std::string directory) : root_{std::move(directory)} {
        while (root_.size() > 1 && (root_.ends_with('/') || root_.ends_with("/."))) root_.pop_back();
    }

    /// The store's directory, without a slash or a dot at its end.
    [[nodiscard]] std::string const& root() const noexcept { return root_; }
    [[nodiscard]] std::string path(std::string_view inside) const { return below_root() + std::string{inside}; }
    [[nodiscard]] std::string lock() const { return path("lock"); }
    /// A read-only opening beside a writer locks this file shared. As long as such a lock is held, no file is recycled.
    [[nodiscard]] std::string readers() const { return path("readers"); }
    [[nodiscard]] std::string notes() const { return path("notes"); }
    [[nodiscard]] std::string manifest(int copy) const { return path(copy == 0 ? "manifest.0" : "manifest.1"); }
    [[nodiscard]] std::string manifest_temporary(int copy) const { return manifest(copy) + ".tmp"; }
    [[nodiscard]] std::string reserve() const { return path("reserve"); }
    [[nodiscard]] std::string log() const { return path("log"); }
    [[nodiscard]] std::string log_file(std::string_view name) const { return log() + '/' + std::string{name}; }
    [[nodiscard]] std::string segment(segment_id id) const { return log_file(segment_name(id)); }
    /// The name of a segment while it is being prepared. A file that already has this name is replaced.
    [[nodiscard]] std::string segment_temporary() const { return log_file(temporary_); }
    /// Chooses another temporary name, because a segment that counts has the first one.
    void avoid_temporary(unsigned attempt) { temporary_ = "prepare." + std::to_string(attempt) + ".tmp"; }
    [[nodiscard]] std::string tables() const { return path("tables"); }
    [[nodiscard]] std::string table_file(std::string_view name) const { return tables() + '/' + std::string{name}; }
    [[nodiscard]] std::string table(format::table_id id) const { return table_file(table_name(id)); }
    [[nodiscard]] std::string table_temporary(format::table_id id) const { return table(id) + ".tmp"; }
    [[nodiscard]] std::string quarantine() const { return path("quarantine"); }
    [[nodiscard]] std::string quarantine(std::uint64_t repair) const {
        return quarantine() + '/' + keel::detail::hex_of(repair);
    }
    /// The list of accepted losses (recovery/loss_ledger.hpp).
    [[nodiscard]] std::string losses() const { return quarantine() + "/losses"; }
    [[nodiscard]] std::string corruption_log() const { return quarantine() + "/corruption.jsonl"; }

    /// The file name of a segment, for example "0000000000000001.seg".
    [[nodiscard]] static std::string segment_name(segment_id id) { return keel::detail::hex_of(id.value) + ".seg"; }
    /// The id in the file name of a segment; nothing for any other name. The id is a hint, too.
    [[nodiscard]] static std::optional<segment_id> segment_of(std::string_view name) {
        if (auto const id = id_of(name, ".seg")) return segment_id{*id};
        return std::nullopt;
    }
    /// The file name of a table, for example "0000000000000001.tab".
    [[nodiscard]] static std::string table_name(format::table_id id) { return keel::detail::hex_of(id.value) + ".tab"; }
    [[nodiscard]] static std::optional<format::table_id> table_of(std::string_view name) {
        if (auto const id = id_of(name, ".tab")) return format::table_id{*id};
        return std::nullopt;
    }
    /// Whether a store may have a file or directory of this name in its own directory.
    [[nodiscard]] static bool is_own_name(std::string_view name) noexcept {
        for (std::string_view const own : {"lock", "readers", "notes", "manifest.0", "manifest.1", "manifest.0.tmp",
                                           "manifest.1.tmp", "reserve", "log", "tables", "checkpoints", "quarantine"})
            if (name == own) return true;
        return false;
    }
    /// Whether this name shows that the directory belongs to another program. Some names show nothing, because file systems and people
    /// create them in any directory: `lost+found`, and names that begin with a dot.
    [[nodiscard]] static bool is_foreign(std::string_view name) noexcept {
        return !is_own_name(name) && !name.starts_with('.') && name != "lost+found";
    }
    /// The path inside the store's directory, as findings and receipts give it.
    [[nodiscard]] std::string inside(std::string_view full) const {
        auto const begin = below_root();
        return full.starts_with(begin) ? std::string{full.substr(begin.size())} : std::string{full};
    }

private:
    [[nodiscard]] std::string below_root() const { return root_.ends_with('/') ? root_ : root_ + '/'; }
    [[nodiscard]] static std::optional<std::uint64_t> id_of(std::string_view name, std::string_view ending) {
        if (name.size() != 16 + ending.size() || !name.ends_with(ending)) return std::nullopt;
        std::uint64_t id = 0;
        auto const [end, failed] = std::from_chars(name.data(), name.data() + 16, id, 16);
        if (failed != std::errc{} || end != name.data() + 16 || id == 0) return std::nullopt;
        if (keel::detail::hex_of(id) != name.substr(0, 16)) return std::nullopt;
        return id;
    }
    std::string root_;
    std::string temporary_{"prepare.tmp"};
};

} // namespace keel::inline v0::wal

#endif
