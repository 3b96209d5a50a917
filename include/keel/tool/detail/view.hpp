// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_VIEW_HPP
#define KEEL_TOOL_DETAIL_VIEW_HPP

// view<Fs>: a file system that only reads another one. A command that examines a store reads through a view, so it cannot write by
// mistake. Calls that would change the store are refused here, before they reach the machine.
//   reading::past_the_cache   every read goes past the page cache (`--deep`), so the command sees the bytes of the medium
//   keep_open(paths)          opens the store's files and uses these handles from then on. A program with the store open may remove a file
//                             during the examination, and dump reads the examined files again
//   without_tables            shows a folder without tables

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>

#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

enum class reading : std::uint8_t { cached, past_the_cache };
enum class shown : std::uint8_t { everything, without_tables };

template <io::file_system Fs>
class view {
    [[nodiscard]] static auto refused(std::string const& path) {
        return failure(errc::read_only, "this command changes nothing", path);
    }

public:
    using mapping = typename Fs::mapping;
    using lock_type = typename Fs::lock_type;

    class file {
    public:
        file(std::shared_ptr<typename Fs::file> inner, reading how) : inner_{std::move(inner)}, how_{how} {}

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            return how_ == reading::cached ? inner_->read(offset, out) : inner_->read_uncached(offset, out);
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            return inner_->read_uncached(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t, byte_view) { return refused(path()); }
        [[nodiscard]] result<void> sync() { return refused(path()); }
        [[nodiscard]] result<void> allocate(std::uint64_t) { return refused(path()); }
        [[nodiscard]] result<io::file_status> status() const { return inner_->status(); }
        [[nodiscard]] result<mapping> map(io::access how) {
            if (how != io::access::read_only) return refused(path());
            return inner_->map(how);
        }
        [[nodiscard]] std::string const& path() const noexcept { return inner_->path(); }

    private:
        std::shared_ptr<typename Fs::file> inner_;
        reading how_;
    };

    view() = default;
    explicit view(Fs inner, reading how = reading::cached, shown what = shown::everything)
        : inner_{std::move(inner)}, how_{how}, what_{what} {}

    /// Opens segments and tables, up to the process's limit of open files. Call it before the manifest is read. Then files that are
    /// removed later can still be read, and the manifest does not name files that were removed before.
    void keep_open(wal::layout const& paths) {
        kept_ = std::make_shared<handles>();
        for (auto const& folder : {paths.log(), paths.tables()}) {
            auto const names = inner_.list(folder);
            if (!names) continue;
            for (auto const& entry : *names) {
                if (entry.kind != io::file_kind::regular) continue;
                auto const path = folder + '/' + entry.name;
                auto opened = inner_.open(path, io::access::read_only, io::creation::must_exist);
                if (opened) kept_->emplace(path, std::make_shared<typename Fs::file>(std::move(*opened)));
                else if (opened.error().code == errc::no_descriptor) return give_some_back();
            }
        }
    }

    [[nodiscard]] result<file> open(std::string const& path, io::access how, io::creation make) {
        if (how != io::access::read_only || make != io::creation::must_exist) return refused(path);
        if (kept_)
            if (auto const known = kept_->find(path); known != kept_->end()) return file{known->second, how_};
        KEEL_TRY_LET(opened, inner_.open(path, how, make));
        return file{std::make_shared<typename Fs::file>(std::move(opened)), how_};
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, io::lock_mode mode) {
        if (mode != io::lock_mode::shared) return refused(path);
        return inner_.lock(path, mode);
    }
    [[nodiscard]] result<std::vector<io::directory_entry>> list(std::string const& path) {
        auto names = inner_.list(path);
        if (names && what_ == shown::without_tables)
            std::erase_if(*names, [](io::directory_entry const& e) { return e.name == "tables"; });
        return names;
    }
    [[nodiscard]] result<io::file_status> status(std::string const& path) { return inner_.status(path); }
    [[nodiscard]] result<void> make_directory(std::string const& path) { return refused(path); }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const&) { return refused(from); }
    [[nodiscard]] result<void> remove(std::string const& path) { return refused(path); }
    [[nodiscard]] result<void> sync_directory(std::string const& path) { return refused(path); }
    [[nodiscard]] io::boot_id boot() { return inner_.boot(); }

private:
    using handles = std::map<std::string, std::shared_ptr<typename Fs::file>>;

    /// Closes some of the files, because the examination needs descriptors, too.
    void give_some_back() {
        constexpr std::size_t needed = 32;
        for (std::size_t i = 0; i < needed && !kept_->empty(); ++i) kept_->erase(std::prev(kept_->end()));
    }

    Fs inner_{};
    reading how_ = reading::cached;
    shown what_ = shown::everything;
    std::shared_ptr<handles> kept_{}; ///< null: each file is opened when it is read
};

} // namespace keel::inline v0::tool::detail

#endif
