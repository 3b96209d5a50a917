// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_CATALOG_HPP
#define KEEL_WAL_CATALOG_HPP

// Which segment has which LSNs: what a reader of the log needs to know, kept up to date by the writer.
//
// The writer changes it through an update: making one ready may throw and changes nothing, committing it cannot fail. So the catalog can
// change after the disk has, and only then.
//
// Thread rules: one mutex of its own, never held during I/O. One thread at a time makes updates (it has the writer's leadership), any
// thread may retire a part meanwhile. A part that readers have does not change; a file that retention removed
// while somebody reads it stays open in their hands, and is not recycled as long as they have it pinned.
//
// Looking an LSN up takes time in the logarithm of the number of ranges, however many losses have made of the log.

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
    lsn first{};                      ///< LSN deltas count from here
    std::uint64_t begin = 0;          ///< offset of the first frame
    std::uint64_t limit = 0;          ///< frames end here at the latest
    bool open = false;                ///< still written to: records up to visible() are there
    std::vector<lsn_range> counted{}; ///< in LSN order
    bool sealed = false;
    format::segment_link link{};       ///< what the header behind it says of it; id 0: not known, or still open
    std::shared_ptr<void const> pin{}; ///< shared by all copies of this part: alive while somebody reads
};

/// What the segment behind a part that takes no more records says of it, or would. Id 0: nothing of it counts, and nobody does.
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
        std::shared_ptr<catalog_part const> part{}; ///< readers may hold the one before
    };
    /// LSNs from a key of the map to `last`, and the part they are read from.
    struct piece {
        lsn last{};
        std::shared_ptr<slot> of{};
    };
    using piece_map = std::map<lsn, piece>;
    using slot_map = std::map<segment_id, std::shared_ptr<slot>>;
    using pin_map = std::map<segment_id, std::weak_ptr<void const>>;

public:
    enum seal_state : std::uint8_t { with_seal, without_seal };

    /// Several changes that take effect together. Making them ready may throw std::bad_alloc, and then the catalog is as before.
    class update {
    public:
        explicit update(catalog& of) : of_{&of} {}

        /// Behind the parts there are. LSNs that an older part has, too, are read from this one from then on.
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
        /// The segment takes no more records; those after `last` are elsewhere or nowhere.
        void close(lsn last, format::segment_link const& link) { close(last, link, with_seal); }
        /// `seal`: whether one that was rolled is sealed, too.
        void close(lsn last, format::segment_link const& link, seal_state seal) {
            auto* const p = change(link.id, last);
            if (p == nullptr) return;
            p->open = false;
            p->limit = std::max(p->begin, link.end);
            p->sealed = link.ended == format::segment_end::rolled && seal == with_seal;
            p->link = link;
        }
        /// Its records after `last` are elsewhere.
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
        /// A copy of the part, which will take its place, without what is after `last`; nothing where there is no such part.
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
        piece_map pieces_{}; ///< of the parts that are added
        piece_map spare_{};  ///< one for each of these: it may part an older piece in two
        slot_map slots_{};
        pin_map pins_{};
    };

    /// One part more, at once.
    void add(catalog_part part) {
        update one{*this};
        one.add(std::move(part));
        one.commit();
    }
    /// The part that has this LSN; who holds the returned pointer pins the segment.
    [[nodiscard]] std::shared_ptr<catalog_part const> find(lsn at) const {
        std::lock_guard const hold{m_};
        auto const here = at_or_behind(at);
        return here != pieces_.end() && here->first <= at ? here->second.of->part : nullptr;
    }
    /// The first LSN at or behind `at` that any part has; 0 where none.
    [[nodiscard]] lsn next_counted(lsn at) const {
        std::lock_guard const hold{m_};
        auto const here = at_or_behind(at);
        return here != pieces_.end() ? std::max(here->first, at) : lsn{};
    }
    /// All parts, in the order of the log. Who holds them pins their segments.
    [[nodiscard]] std::vector<std::shared_ptr<catalog_part const>> all() const {
        std::lock_guard const hold{m_};
        std::vector<std::shared_ptr<catalog_part const>> out;
        out.reserve(parts_.size());
        for (auto const& p : parts_) out.push_back(p->part);
        return out;
    }
    /// About how many bytes of frames all parts have, a whole segment for the one that is written to.
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        std::lock_guard const hold{m_};
        std::uint64_t sum = 0;
        for (auto const& p : parts_) sum += p->part->limit - p->part->begin;
        return sum;
    }
    /// Whether somebody still reads a part that was retired.
    [[nodiscard]] bool pinned(segment_id id) const {
        std::lock_guard const hold{m_};
        auto const at = pins_.find(id);
        return at != pins_.end() && !at->second.expired();
    }
    /// Forgets the part; who still reads it keeps it pinned. Cannot fail: it follows a manifest edit that was committed.
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
    /// The piece that has this LSN, or else the first one behind it.
    [[nodiscard]] piece_map::const_iterator at_or_behind(lsn at) const noexcept {
        auto const behind = pieces_.upper_bound(at);
        if (behind != pieces_.begin() && std::prev(behind)->second.last >= at) return std::prev(behind);
        return behind;
    }
    [[nodiscard]] bool touches(lsn_range r) const noexcept {
        auto const here = at_or_behind(r.first);
        return !r.empty() && here != pieces_.end() && here->first <= r.last;
    }
    /// Takes these LSNs from the pieces that have them. `spare`: a piece for what may have to be parted in two.
    void cut_out(lsn_range r, piece_map& spare) noexcept {
        auto at = pieces_.upper_bound(r.first);
        if (at != pieces_.begin() && std::prev(at)->second.last >= r.first) --at;
        while (at != pieces_.end() && at->first <= r.last) {
            bool const begins_before = at->first < r.first;
            bool const ends_after = at->second.last > r.last;
            if (ends_after) {
                auto rest = begins_before ? spare.extract(spare.begin()) : pieces_.extract(at);
                if (rest.empty()) return; // does not happen: there is a spare one for each range
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
    /// Nobody is sent to this part for what is behind `last`.
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
        if (at == slots_.end()) return; // retired meanwhile
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
    piece_map pieces_{}; ///< no two have an LSN in common
    pin_map pins_{};
};

} // namespace keel::inline v0::wal

#endif
