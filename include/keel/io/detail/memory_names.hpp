// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_NAMES_HPP
#define KEEL_IO_DETAIL_MEMORY_NAMES_HPP

// The names of a simulated disk: its folders, and which changes of names a power loss may undo. Each folder holds its entries twice: `now`,
// and `base`, which is certainly durable. Between the two are the changes, in order. A change moves one inode from a name to another name.
// (A creation has no old name, a removal no new one.) Syncing a folder makes every change that touches it durable. Each other change
// survives a power loss or not, independently of the others.
//  - An inode has one name at most. A rename that survives puts its inode at the new name, even if the creation of the inode, or an earlier
//    rename, did not survive. The inode that had this name is replaced.
//  - A removal that survives takes its inode from that name and changes nothing else.
// A durable change is applied to `base` once no earlier undecided change concerns the same inode or name.

#include <keel/detail/assert.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_choice.hpp>
#include <keel/io/detail/memory_content.hpp>
#include <keel/io/detail/memory_cow.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

/// The entries of a folder: name and inode.
struct memory_folder {
    using entries = std::map<std::string, std::uint64_t, std::less<>>;
    entries now;
    entries base;
};

/// One file (`content`) or one folder (`folder`). The other pointer is empty.
struct memory_node {
    std::uint64_t inode = 0;
    std::uint64_t links = 0; ///< number of names it has now
    cow<memory_content> content;
    cow<memory_folder> folder;
};

/// A path as the caller gave it, and the folder and names that it stands for. `text` and `rest` refer to the caller's string.
struct memory_path {
    memory_path(std::string const& path) : text{path}, rest{path} {} // NOLINT: implicit; a path from the root
    memory_path(std::string const& path, std::uint64_t folder, std::string_view below)
        : text{path}, from{folder}, rest{below} {}

    std::string const& text;
    std::uint64_t from = 1; ///< inode of the folder where the look-up begins; 1: the root
    std::string_view rest;  ///< the names below that folder
};

/// The result of a look-up: a name in a folder, and its inode. `inode` is 0 if the name does not exist. `folder` is 0 if the path names the
/// folder where the look-up began, such as the root, or a folder above it.
struct memory_place {
    std::uint64_t folder = 0;
    std::string name;
    std::uint64_t inode = 0;
};

class memory_names {
public:
    static constexpr std::uint64_t root_inode = 1; // the same number as in memory_path

    memory_names() { nodes_.push_back({root_inode, 1, {}, cow<memory_folder>::make()}); }

    [[nodiscard]] memory_node* find(std::uint64_t inode) noexcept {
        return const_cast<memory_node*>(std::as_const(*this).find(inode));
    }
    [[nodiscard]] memory_node const* find(std::uint64_t inode) const noexcept {
        auto const place =
            std::lower_bound(nodes_.begin(), nodes_.end(), inode,
                             [](memory_node const& node, std::uint64_t wanted) { return node.inode < wanted; });
        return place != nodes_.end() && place->inode == inode ? &*place : nullptr;
    }
    /// The node of an inode. Precondition: it exists, because a handle, an entry or an undecided change refers to it.
    [[nodiscard]] memory_node const& at(std::uint64_t inode) const noexcept {
        auto const* const node = find(inode);
        KEEL_ASSERT(node != nullptr);
        if (node == nullptr) __builtin_unreachable();
        return *node;
    }
    [[nodiscard]] memory_node& at(std::uint64_t inode) noexcept {
        return const_cast<memory_node&>(std::as_const(*this).at(inode));
    }
    [[nodiscard]] std::vector<memory_node>& nodes() noexcept { return nodes_; }
    [[nodiscard]] std::vector<memory_node> const& nodes() const noexcept { return nodes_; }

    /// Follows the names of the path, one by one. Empty names, "." and a leading slash mean the folder itself.
    [[nodiscard]] result<memory_place> resolve(memory_path const& path) const {
        memory_place at{0, "", path.from};
        std::vector<memory_place> above;
        for (auto rest = path.rest; !rest.empty();) {
            auto const name = rest.substr(0, rest.find('/'));
            rest.remove_prefix(std::min(name.size() + 1, rest.size()));
            if (name.empty() || name == ".") continue;
            auto const* const here = find(at.inode);
            if (here == nullptr || !here->folder) {
                return failure(errc::not_found, "a folder on the way is missing, or is a file; create it first",
                               path.text);
            }
            if (name == "..") {
                if (!above.empty()) at = above.back(), above.pop_back();
                else at.inode = folder_above(at.inode);
                continue;
            }
            auto const entry = here->folder->now.find(name);
            above.push_back(std::exchange(at, memory_place{here->inode, std::string{name},
                                                           entry == here->folder->now.end() ? 0 : entry->second}));
        }
        return at;
    }

    [[nodiscard]] bool is_folder(std::uint64_t inode) const noexcept {
        auto const* const node = find(inode);
        return node != nullptr && static_cast<bool>(node->folder);
    }

    /// The folder that contains this one; 0 if this one has no name any more. The root is its own parent.
    [[nodiscard]] std::uint64_t folder_above(std::uint64_t inode) const noexcept {
        if (inode == root_inode) return root_inode;
        for (auto const& node : nodes_) {
            if (!node.folder) continue;
            for (auto const& entry : node.folder->now)
                if (entry.second == inode) return node.inode;
        }
        return 0;
    }

    /// Creates a file or folder. Precondition: the name is free.
    memory_node& create(memory_place const& place, bool folder) {
        auto const inode = ++last_inode_;
        nodes_.push_back({inode, 0, folder ? cow<memory_content>{} : cow<memory_content>::make(),
                          folder ? cow<memory_folder>::make() : cow<memory_folder>{}});
        change({.inode = inode, .to_folder = place.folder, .to = place.name});
        return at(inode);
    }

    /// Creates a file that is durable at once.
    memory_node& create_durably(memory_place const& place) {
        auto& made = create(place, false);
        changes_.pop_back();
        at(place.folder).folder.edit().base[place.name] = made.inode;
        return made;
    }

    void rename(memory_place const& from, memory_place const& to) {
        change({.inode = from.inode,
                .from_folder = from.folder,
                .from = from.name,
                .to_folder = to.folder,
                .to = to.name});
    }

    void remove(memory_place const& place) {
        change({.inode = place.inode, .from_folder = place.folder, .from = place.name});
    }

    /// Whether `inode` is `folder` or contains it.
    [[nodiscard]] bool is_above(std::uint64_t inode, std::uint64_t folder) const {
        if (inode == folder) return true;
        auto const* const node = find(inode);
        if (node == nullptr || !node->folder) return false;
        return std::any_of(node->folder->now.begin(), node->folder->now.end(),
                           [&](auto const& entry) { return is_above(entry.second, folder); });
    }

    void sync(std::uint64_t folder) {
        for (auto& one : changes_)
            if (one.from_folder == folder || one.to_folder == folder) one.durable = true;
        std::vector<name_change> undecided;
        for (auto& one : changes_) {
            auto const entangled = [&](name_change const& earlier) { return earlier.touches(one); };
            if (one.durable && std::none_of(undecided.begin(), undecided.end(), entangled))
                apply(one, &memory_folder::base);
            else undecided.push_back(std::move(one));
        }
        changes_ = std::move(undecided);
    }

    /// Applies the changes of names that survive. Nodes without a name are removed.
    void lose_power(survivor_choice& choice) {
        for (auto const& one : changes_)
            if (one.durable || choice.survives()) apply(one, &memory_folder::base);
        changes_.clear();
        for (auto& node : nodes_) {
            if (node.folder && node.folder->now != node.folder->base) {
                auto& folder = node.folder.edit();
                folder.now = folder.base;
            }
            node.links = 0;
        }
        count_links(root_inode);
        std::erase_if(nodes_, [](memory_node const& node) { return node.links == 0; });
    }

    /// Removes nodes that no name, no undecided change and no handle (in_use(inode)) refers to.
    template <class F>
    void collect(F in_use) {
        for (bool removed = true; removed;) {
            std::vector<std::uint64_t> wanted{root_inode};
            for (auto const& node : nodes_) {
                if (in_use(node.inode)) wanted.push_back(node.inode);
                if (!node.folder) continue;
                for (auto const& entry : node.folder->now) wanted.push_back(entry.second);
                for (auto const& entry : node.folder->base) wanted.push_back(entry.second);
            }
            for (auto const& one : changes_) wanted.push_back(one.inode);
            std::sort(wanted.begin(), wanted.end());
            removed = std::erase_if(nodes_, [&](memory_node const& node) {
                          return !std::binary_search(wanted.begin(), wanted.end(), node.inode);
                      }) > 0;
        }
    }

    /// Calls f(path, node) for every file. The path has the names of the folders and no leading slash.
    template <class F>
    void each_file(F&& f) const {
        each_file_below(at(root_inode), "", f);
    }

private:
    struct name_change {
        std::uint64_t inode = 0;
        std::uint64_t from_folder = 0; // 0: a creation
        std::string from{};
        std::uint64_t to_folder = 0; // 0: a removal
        std::string to{};
        bool durable = false;

        [[nodiscard]] bool names(std::uint64_t folder, std::string const& name) const noexcept {
            return folder != 0 && ((from_folder == folder && from == name) || (to_folder == folder && to == name));
        }
        [[nodiscard]] bool touches(name_change const& other) const noexcept {
            return inode == other.inode || names(other.from_folder, other.from) || names(other.to_folder, other.to);
        }
    };
    using side = memory_folder::entries memory_folder::*;

    void change(name_change one) {
        if (auto* const replaced = one.to_folder == 0 ? nullptr : at_target(one)) --replaced->links;
        auto& node = at(one.inode);
        if (one.from_folder != 0) --node.links;
        if (one.to_folder != 0) ++node.links;
        apply(one, &memory_folder::now);
        changes_.push_back(std::move(one));
    }

    memory_node* at_target(name_change const& one) {
        auto const& entries = at(one.to_folder).folder->now;
        auto const entry = entries.find(one.to);
        return entry == entries.end() ? nullptr : find(entry->second);
    }

    void apply(name_change const& one, side entries) {
        auto* const from = find(one.from_folder);
        bool const left = from == nullptr || take_out(*from, one.from, one.inode, entries);
        auto* const to = find(one.to_folder);
        if (to == nullptr || !to->folder) return;
        if (!left) take_out_everywhere(one.inode, entries);
        (to->folder.edit().*entries)[one.to] = one.inode;
    }

    static bool take_out(memory_node& folder, std::string const& name, std::uint64_t inode, side entries) {
        auto const& there = (*folder.folder).*entries;
        auto const entry = there.find(name);
        if (entry == there.end() || entry->second != inode) return false;
        (folder.folder.edit().*entries).erase(name);
        return true;
    }

    void take_out_everywhere(std::uint64_t inode, side entries) {
        for (auto& node : nodes_) {
            if (!node.folder) continue;
            auto const& there = (*node.folder).*entries;
            auto const entry = std::find_if(there.begin(), there.end(),
                                            [&](auto const& e) { return e.second == inode; });
            if (entry != there.end()) take_out(node, std::string{entry->first}, inode, entries);
        }
    }

    void count_links(std::uint64_t inode) {
        auto* const node = find(inode);
        if (node == nullptr) return;
        if (++node->links > 1 || !node->folder) return;
        for (auto const& entry : cow<memory_folder> { node->folder } -> now) count_links(entry.second);
    }

    template <class F>
    void each_file_below(memory_node const& folder, std::string const& prefix, F& f) const {
        for (auto const& [name, inode] : folder.folder->now) {
            auto const* const node = find(inode);
            if (node == nullptr) continue;
            if (node->folder) each_file_below(*node, prefix + name + "/", f);
            else f(prefix + name, *node);
        }
    }

    std::vector<memory_node> nodes_; // sorted by inode
    std::vector<name_change> changes_;
    std::uint64_t last_inode_ = root_inode;
};

} // namespace keel::inline v0::io::detail

#endif
