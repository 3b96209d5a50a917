// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_CATALOG_HPP
#define KEEL_WAL_CATALOG_HPP

// The catalog: which segment holds which LSNs. Readers of the log use it; the writer keeps it up to date.
//
// The writer changes the catalog through an update. Preparing an update may throw and changes nothing; committing it cannot fail. So the
// catalog can change after the disk has changed, and never before.
//
// Thread rules: the catalog has its own mutex, which is never held during I/O. One thread at a time makes updates: the holder of the
// writer's leadership. Any thread may retire a part at the same time. A part that a reader holds does not change. Retention may remove the
// file of such a part: the reader still has the file open, and the file is not recycled while the reader pins the part.
//
// Looking up an LSN takes logarithmic time in the number of ranges, even if losses have split the log into many ranges.

#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace keel::inline v0::wal {

/// One segment as a reader sees it.
struct catalog_part {
    segment_id id{};
    segment_id place{};
    std::string path{};
    std::uint64_t salt = 0;
    lsn first{};                      ///< first LSN of the segment; LSN deltas count from it
    std::uint64_t begin = 0;          ///< offset of the first frame
    std::uint64_t limit = 0;          ///< the largest offset at which frames may end
    bool open = false;                ///< still written to: it has the records up to visible()
    std::vector<lsn_range> counted{}; ///< LSNs that count, in order
    bool sealed = false;
    format::segment_link link{};       ///< as the next segment's header stores it; id 0: not known, or still open
    std::shared_ptr<void const> pin{}; ///< shared by all copies of this part; alive while a reader has one
};

/// The link that the next segment's header stores, or would store, for a part that takes no more records. Id 0: no LSN of the part counts,
/// so no header links to it.
[[nodiscard]] inline format::segment_link link_of(catalog_part const& p) noexcept {
    if (p.link.id || p.counted.empty()) return p.link;
    return {.id = p.id,
            .salt = p.salt,
            .last = p.counted.back().last,
            .end = p.limit,
            .ended = format::segment_end::crashed};
}

class catalog {
    struct slot {
        std::shared_ptr<catalog_part const> part{}; ///< readers may still hold an older version
    };
    /// A range of LSNs, from the key in the map to `last`, and the part from which they are read.
    struct piece {
        lsn last{};
        std::shared_ptr<slot> of{};
    };
    using piece_map = std::map<lsn, piece>;
    using slot_map = std::map<segment_id, std::shared_ptr<slot>>;
    using pin_map = std::map<segment_id, std::weak_ptr<void const>>;

public:
    enum seal_state : std::uint8_t { with_seal, without_seal };

    /// Several changes that take effect together. Preparing them may throw std::bad_alloc; the catalog is unchanged then.
    class update {
    public:
        explicit update(catalog& of) : of_{&of} {}

        /// Adds a part behind all existing parts. If an older part has some of the same LSNs, they are read from the new part from then on.
        void add(catalog_part part) {
            part.pin = std::make_shared<char>();
            auto fresh = std::make_shared<slot>();
            fresh->part = std::make_shared<catalog_part const>(std::move(part));
            for (auto const& r : fresh->part->counted) {
                if (r.empty()) continue;
                pieces_.emplace(r.first, piece{r.last, fresh});
                spare_.emplace(r.first, piece{});
            }
            slots_.emplace(fresh->part->id, fresh);
            pins_.emplace(fresh->part->id, fresh->part->pin);
            added_.push_back(std::move(fresh));
            std::lock_guard const hold{of_->m_};
            of_->parts_.reserve(of_->parts_.size() + added_.size());
        }
        /// The segment takes no more records. Records after `last` are no longer read from it.
        void close(lsn last, format::segment_link const& link) { close(last, link, with_seal); }
        /// `seal`: whether a segment that ended as `rolled` has its seal.
        void close(lsn last, format::segment_link const& link, seal_state seal) {
            auto* const p = change(link.id, last);
            if (p == nullptr) return;
            p->open = false;
            p->limit = std::max(p->begin, link.end);
            p->sealed = link.ended == format::segment_end::rolled && seal == with_seal;
            p->link = link;
        }
        /// Records after `last` are no longer read from this segment, because another segment has them.
        void trim(segment_id id, lsn last) { static_cast<void>(change(id, last)); }

        void commit() noexcept {
            std::lock_guard const hold{of_->m_};
            for (auto& next : changed_) of_->put_in_place(std::move(next));
            for (auto const& fresh : added_) {
                for (auto const& r : fresh->part->counted) of_->cut_out(r, spare_);
                of_->pins_.erase(fresh->part->id);
                of_->parts_.push_back(fresh);
            }
            of_->pieces_.merge(pieces_);
            of_->slots_.merge(slots_);
            of_->pins_.merge(pins_);
        }

    private:
        /// Returns a copy of the part without the LSNs after `last`. commit() puts the copy in the place of the part. Null if there is no
        /// such part.
        [[nodiscard]] catalog_part* change(segment_id id, lsn last) {
            auto known = std::ranges::find(changed_, id, &catalog_part::id);
            if (known == changed_.end()) {
                auto const now = of_->part(id);
                if (!now) return nullptr;
                changed_.push_back(std::make_shared<catalog_part>(*now));
                known = std::prev(changed_.end());
            }
            auto& p = **known;
            for (auto& r : p.counted) r.last = std::min(r.last, last);
            std::erase_if(p.counted, [](lsn_range const& r) { return r.empty(); });
            return &p;
        }
        catalog* of_;
        std::vector<std::shared_ptr<catalog_part>> changed_{};
        std::vector<std::shared_ptr<slot>> added_{};
        piece_map pieces_{}; ///< the pieces of the added parts
        piece_map spare_{};  ///< one node for each of these: a new range may split an old piece
        slot_map slots_{};
        pin_map pins_{};
    };

    /// Adds one part at once.
    void add(catalog_part part) {
        update one{*this};
        one.add(std::move(part));
        one.commit();
    }
    /// The part that has this LSN, or null. The segment is pinned while the pointer is held.
    [[nodiscard]] std::shared_ptr<catalog_part const> find(lsn at) const {
        std::lock_guard const hold{m_};
        auto const here = at_or_behind(at);
        return here != pieces_.end() && here->first <= at ? here->second.of->part : nullptr;
    }
    /// The first LSN at or after `at` that any part has; 0 if there is none.
    [[nodiscard]] lsn next_counted(lsn at) const {
        std::lock_guard const hold{m_};
        auto const here = at_or_behind(at);
        return here != pieces_.end() ? std::max(here->first, at) : lsn{};
    }
    /// All parts, in the order of the log. Their segments are pinned while the pointers are held.
    [[nodiscard]] std::vector<std::shared_ptr<catalog_part const>> all() const {
        std::lock_guard const hold{m_};
        std::vector<std::shared_ptr<catalog_part const>> out;
        out.reserve(parts_.size());
        for (auto const& p : parts_) out.push_back(p->part);
        return out;
    }
    /// The approximate number of bytes of frames in all parts. The active segment counts with its full size.
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        std::lock_guard const hold{m_};
        std::uint64_t sum = 0;
        for (auto const& p : parts_) sum += p->part->limit - p->part->begin;
        return sum;
    }
    /// Whether a reader still holds a part that was retired.
    [[nodiscard]] bool pinned(segment_id id) const {
        std::lock_guard const hold{m_};
        auto const at = pins_.find(id);
        return at != pins_.end() && !at->second.expired();
    }
    /// Removes the part. A reader that still holds the part keeps it pinned. Cannot fail, because it follows a manifest edit that was
    /// committed.
    void retire(segment_id id) noexcept {
        std::lock_guard const hold{m_};
        std::erase_if(pins_, [](auto const& entry) { return entry.second.expired(); });
        auto const at = slots_.find(id);
        if (at == slots_.end()) return;
        auto const gone = at->second;
        slots_.erase(at);
        forget_behind(*gone, lsn{});
        std::erase(parts_, gone);
    }

private:
    /// The piece that has this LSN, or else the first piece after it.
    [[nodiscard]] piece_map::const_iterator at_or_behind(lsn at) const noexcept {
        auto const behind = pieces_.upper_bound(at);
        if (behind != pieces_.begin() && std::prev(behind)->second.last >= at) return std::prev(behind);
        return behind;
    }
    [[nodiscard]] bool touches(lsn_range r) const noexcept {
        auto const here = at_or_behind(r.first);
        return !r.empty() && here != pieces_.end() && here->first <= r.last;
    }
    /// Removes these LSNs from the pieces that have them. `spare`: nodes for pieces that must be split in two, so that no allocation can
    /// fail here.
    void cut_out(lsn_range r, piece_map& spare) noexcept {
        auto at = pieces_.upper_bound(r.first);
        if (at != pieces_.begin() && std::prev(at)->second.last >= r.first) --at;
        while (at != pieces_.end() && at->first <= r.last) {
            bool const begins_before = at->first < r.first;
            bool const ends_after = at->second.last > r.last;
            if (ends_after) {
                auto rest = begins_before ? spare.extract(spare.begin()) : pieces_.extract(at);
                if (rest.empty()) return; // cannot happen: there is a spare node for each range
                if (begins_before) rest.mapped() = at->second;
                if (begins_before) at->second.last = r.first.before();
                rest.key() = r.last.next();
                pieces_.insert(std::move(rest));
                return;
            }
            if (begins_before) at->second.last = r.first.before();
            at = begins_before ? std::next(at) : pieces_.erase(at);
        }
    }
    /// LSNs after `last` are no longer read from this part.
    void forget_behind(slot const& of, lsn last) noexcept {
        for (auto const& r : of.part->counted) {
            if (r.last <= last) continue;
            auto at = pieces_.upper_bound(r.first);
            if (at != pieces_.begin()) --at;
            while (at != pieces_.end() && at->first <= r.last) {
                bool const own = at->second.of.get() == &of && at->second.last > last;
                if (own && at->first <= last) at->second.last = last;
                at = own && at->first > last ? pieces_.erase(at) : std::next(at);
            }
        }
    }
    void put_in_place(std::shared_ptr<catalog_part const> next) noexcept {
        auto const at = slots_.find(next->id);
        if (at == slots_.end()) return; // the part was retired in the meantime
        forget_behind(*at->second, next->counted.empty() ? lsn{} : next->counted.back().last);
        at->second->part = std::move(next);
    }
    [[nodiscard]] std::shared_ptr<catalog_part const> part(segment_id id) const {
        std::lock_guard const hold{m_};
        auto const at = slots_.find(id);
        return at != slots_.end() ? at->second->part : nullptr;
    }

    mutable std::mutex m_;
    std::vector<std::shared_ptr<slot>> parts_{}; ///< in the order of the log
    slot_map slots_{};
    piece_map pieces_{}; ///< no two pieces share an LSN
    pin_map pins_{};
};

} // namespace keel::inline v0::wal

#endif
