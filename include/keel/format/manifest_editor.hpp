// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_MANIFEST_EDITOR_HPP
#define KEEL_FORMAT_MANIFEST_EDITOR_HPP

// Applies edits to a manifest state in place. The cost of an edit depends on its own size, not on the size of the state. So loading a
// manifest, or committing to it, takes time in proportion to the edits. The editor keeps the values that an edit replaced until the next
// edit, as nodes of the state's own maps. So an edit can be taken back after its commit failed. Taking it back needs no memory and cannot
// fail.

#include <keel/format/endian.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace keel::inline v0::format {

class manifest_editor {
public:
    /// `state` must outlive the editor. Nobody else may change it between apply() and take_back(). One thread per object.
    explicit manifest_editor(manifest_state& state) noexcept : state_{&state} {}
    manifest_editor(manifest_editor const&) = delete;
    manifest_editor& operator=(manifest_editor const&) = delete;

    /// Applies an edit and makes it the newest one of the state. Returns false if an operation is unknown, is cut short or contradicts
    /// the state. Throws std::bad_alloc. In both cases the state is as it was before.
    [[nodiscard]] bool apply(std::uint64_t number, byte_view payload) {
        begin();
        rollback on_failure{*this};
        for (field_reader in{payload}; in.left() != 0;) {
            auto const what = static_cast<manifest_op>(in.get<std::uint8_t>());
            auto const length = in.get<std::uint8_t>();
            field_reader fields{in.view(length)};
            if (!in.ok() || !apply_op(what, fields) || !fields.ok() || fields.left() != 0) return false;
        }
        state_->edit = number;
        on_failure.armed = false;
        return true;
    }
    /// Makes the last apply() final: the replaced values are dropped.
    void keep() noexcept {
        undo_.clear();
        open_ = false;
    }
    /// Restores the state before the last apply(). Changes nothing after keep().
    void take_back() noexcept {
        if (!std::exchange(open_, false)) return;
        while (!undo_.empty()) {
            std::visit([this](auto& what) { undo(what); }, undo_.back());
            undo_.pop_back();
        }
        state_->edit = before_.edit;
        state_->next_segment = before_.next_segment;
        state_->next_repair = before_.next_repair;
        state_->next_table = before_.next_table;
        state_->log_start_lsn = before_.log_start_lsn;
        state_->log_base = before_.log_base;
    }

private:
    using segment_map = std::map<segment_id, segment_entry>;
    using table_map = std::map<table_id, table_entry>;

    // The steps of the undo list: a kind for each change, with the value before it.
    struct segment_added {
        segment_id id;
    };
    struct segment_gone {
        segment_map::node_type node;
    };
    struct seal_set {
        segment_id id;
        std::optional<segment_seal> before;
    };
    struct loss_added {};
    struct losses_replaced {
        std::vector<lsn_range> before;
    };
    struct removed_added {};
    struct table_added {
        table_id id;
    };
    struct table_gone {
        table_map::node_type node;
    };
    using step = std::variant<segment_added, segment_gone, seal_set, loss_added, losses_replaced, removed_added,
                              table_added, table_gone>;

    void undo(segment_added const& s) noexcept { state_->segments.erase(s.id); }
    void undo(segment_gone& s) noexcept { state_->segments.insert(std::move(s.node)); }
    void undo(seal_set const& s) noexcept { state_->segments.find(s.id)->second.seal = s.before; }
    void undo(loss_added const&) noexcept { state_->losses.pop_back(); }
    void undo(losses_replaced& s) noexcept { state_->losses.swap(s.before); }
    void undo(removed_added const&) noexcept { state_->removed.pop_back(); }
    void undo(table_added const& s) noexcept { state_->tables.erase(s.id); }
    void undo(table_gone& s) noexcept { state_->tables.insert(std::move(s.node)); }

    struct rollback {
        manifest_editor& of;
        bool armed = true;
        explicit rollback(manifest_editor& editor) noexcept : of{editor} {}
        rollback(rollback const&) = delete;
        rollback& operator=(rollback const&) = delete;
        ~rollback() {
            if (armed) of.take_back();
        }
    };

    struct numbers {
        std::uint64_t edit = 0;
        std::uint64_t next_segment = 0;
        std::uint64_t next_repair = 0;
        std::uint64_t next_table = 0;
        lsn log_start_lsn{};
        segment_link log_base{};
    };

    void begin() {
        undo_.clear();
        open_ = true;
        before_ = {state_->edit,       state_->next_segment,  state_->next_repair,
                   state_->next_table, state_->log_start_lsn, state_->log_base};
    }
    /// Reserves memory for the steps of the next operation, so that note() cannot fail after the state was changed.
    void make_room(std::size_t steps) {
        if (undo_.capacity() - undo_.size() < steps) undo_.reserve(std::max(undo_.size() + steps, 2 * undo_.size()));
    }
    template <class Step>
    void note(Step what) noexcept {
        undo_.emplace_back(std::move(what));
    }

    [[nodiscard]] bool apply_op(manifest_op what, field_reader& in) {
        make_room(2);
        switch (what) {
        case manifest_op::next_ids:
            state_->next_segment = in.get<std::uint64_t>();
            state_->next_repair = in.get<std::uint64_t>();
            return true;
        case manifest_op::prepared: return add_segment(in);
        case manifest_op::sealed: return set_seal(in);
        case manifest_op::retired: return drop_segment(in.get_segment());
        case manifest_op::loss: return add_loss(in);
        case manifest_op::removed: return remove_segment(in);
        case manifest_op::log_base: return set_base(in);
        case manifest_op::log_start_lsn:
            state_->log_start_lsn = in.get_lsn();
            return state_->log_start_lsn <= lsn_highest;
        case manifest_op::table: return set_table(in);
        case manifest_op::remove_table: return drop_table({in.get<std::uint64_t>()});
        case manifest_op::next_table_id:
            state_->next_table = std::max(state_->next_table, in.get<std::uint64_t>()); // an id is never used twice
            return true;
        case manifest_op::reclaim_lsns: return drop_losses(in.get_lsn());
        }
        return false;
    }

    [[nodiscard]] bool add_segment(field_reader& in) {
        segment_entry e;
        e.id = in.get_segment();
        e.salt = in.get<std::uint64_t>();
        e.size = in.get<std::uint64_t>();
        e.place = in.get_segment();
        if (!e.id || !e.place || e.place > e.id || !valid_segment_size(e.size) ||
            static_cast<std::uint32_t>(e.salt) == 0)
            return false;
        if (!state_->segments.emplace(e.id, e).second) return false;
        note(segment_added{e.id});
        state_->next_segment = std::max(state_->next_segment, e.id.value + 1);
        return true;
    }
    [[nodiscard]] bool set_seal(field_reader& in) {
        auto const seal = get_seal(in);
        auto const at = state_->segments.find(seal.id);
        if (at == state_->segments.end() || at->second.salt != seal.salt || !seal.range.first ||
            seal.range.last > lsn_highest)
            return false;
        note(seal_set{seal.id, at->second.seal});
        at->second.seal = seal;
        return true;
    }
    [[nodiscard]] bool drop_segment(segment_id id) noexcept {
        auto node = state_->segments.extract(id);
        if (node.empty()) return false;
        note(segment_gone{std::move(node)});
        return true;
    }
    [[nodiscard]] bool add_loss(field_reader& in) {
        lsn_range r;
        r.first = in.get_lsn();
        r.last = in.get_lsn();
        if (!r.first || r.empty() || r.last > lsn_highest) return false;
        state_->losses.push_back(r);
        note(loss_added{});
        return true;
    }
    [[nodiscard]] bool remove_segment(field_reader& in) {
        auto const id = in.get_segment();
        auto const repair = in.get<std::uint64_t>();
        if (!id) return false;
        static_cast<void>(drop_segment(id)); // the segment may be unknown
        state_->removed.push_back({id, repair});
        note(removed_added{});
        state_->next_repair = std::max(state_->next_repair, repair + 1);
        return true;
    }
    [[nodiscard]] bool set_base(field_reader& in) noexcept {
        state_->log_base.id = in.get_segment();
        state_->log_base.salt = in.get<std::uint64_t>();
        state_->log_base.last = in.get_lsn();
        state_->log_base.chain = in.get<std::uint64_t>();
        return true;
    }
    [[nodiscard]] static bool is_sane(table_entry const& t) noexcept {
        return t.id && t.id.value < lsn_highest.value && static_cast<std::uint32_t>(t.salt) != 0 &&
               t.size >= table_bytes_min && t.size <= table_bytes_max && t.lsns.first && !t.lsns.empty() &&
               t.lsns.last <= lsn_highest && t.level < table_levels && (t.level != 0 || t.lsns.size() == 1) &&
               t.compression <= compression_id_max && t.smallest.size() <= table_bound_bytes_max &&
               t.largest.size() <= table_bound_bytes_max && !t.ends_before(t.smallest);
    }
    [[nodiscard]] bool set_table(field_reader& in) {
        table_entry t;
        t.id = {in.get<std::uint64_t>()};
        t.salt = in.get<std::uint64_t>();
        t.size = in.get<std::uint64_t>();
        t.lsns.first = in.get_lsn();
        t.lsns.last = in.get_lsn();
        t.records = in.get<std::uint64_t>();
        t.level = in.get<std::uint8_t>();
        auto const n = in.get<std::uint8_t>();
        auto const m = in.get<std::uint8_t>();
        t.compression = in.get<std::uint8_t>();
        t.ends_open = (m & 0x80) != 0;
        t.smallest = as_text(in.view(n));
        t.largest = as_text(in.view(m & 0x7FU));
        if (!is_sane(t)) return false;
        auto const id = t.id;
        static_cast<void>(drop_table(id)); // a known table changes its level
        state_->tables.emplace(id, std::move(t));
        note(table_added{id});
        state_->next_table = std::max(state_->next_table, id.value + 1);
        return true;
    }
    [[nodiscard]] bool drop_table(table_id id) noexcept {
        auto node = state_->tables.extract(id);
        if (node.empty()) return false;
        note(table_gone{std::move(node)});
        return true;
    }
    [[nodiscard]] bool drop_losses(lsn from) {
        if (!from) return false;
        auto kept = state_->losses;
        for (auto& r : kept) r.last = std::min(r.last, from.before());
        std::erase_if(kept, [](lsn_range const& r) { return r.empty(); });
        kept.swap(state_->losses);
        note(losses_replaced{std::move(kept)});
        return true;
    }

    manifest_state* state_;
    numbers before_{};
    std::vector<step> undo_{};
    bool open_ = false; ///< the last apply() can be taken back
};

/// Returns the state after one edit or snapshot. Returns nothing if an operation is unknown, is cut short or contradicts the state
/// before.
[[nodiscard]] inline std::optional<manifest_state> applied(manifest_state state, frame_type type, std::uint64_t number,
                                                           byte_view payload) {
    if (type == frame_type::snapshot) state = manifest_state{};
    else if (type != frame_type::edit) return std::nullopt;
    manifest_editor editor{state};
    if (!editor.apply(number, payload)) return std::nullopt;
    return state;
}

} // namespace keel::inline v0::format

#endif
