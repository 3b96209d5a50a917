// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_CATALOG_HPP
#define KEEL_WAL_CATALOG_HPP

// Which segment has which LSNs: what a reader of the log needs to know, kept up to date by the writer.
//
// The writer changes it through an update: making one ready may throw and changes nothing, committing it cannot fail. So the catalog can
// change after the disk has, and only then.
//
// Thread rules: one mutex of its own, never held during I/O. One thread at a time makes updates (it has the writer's leadership). Readers
// get copies; a file that retention removed while somebody reads it stays open in their hands, and is not recycled as long as they have
// it pinned.

#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>

#include <algorithm>
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

class catalog {
public:
    /// Several changes that take effect together. Making them ready may throw std::bad_alloc, and then the catalog is as before.
    class update {
    public:
        explicit update(catalog& of) : of_{&of} {}

        void add(catalog_part part) {
            part.pin = std::make_shared<char>();
            added_.push_back(std::make_shared<catalog_part>(std::move(part)));
            std::lock_guard const hold{of_->m_};
            of_->parts_.reserve(of_->parts_.size() + added_.size());
        }
        /// The segment takes no more records; those after `last` are elsewhere or nowhere.
        void close(lsn last, format::segment_link const& link) {
            auto* const p = change(link.id);
            if (p == nullptr) return;
            p->open = false;
            p->limit = std::max(p->begin, link.end);
            p->sealed = link.ended == format::segment_end::rolled;
            p->link = link;
            forget_after(*p, last);
        }
        /// Its records after `last` are elsewhere.
        void trim(segment_id id, lsn last) {
            if (auto* const p = change(id); p != nullptr) forget_after(*p, last);
        }
        void commit() noexcept {
            std::lock_guard const hold{of_->m_};
            for (auto& next : changed_)
                for (auto& p : of_->parts_)
                    if (p->id == next->id) p = next; // readers may hold the old one
            for (auto& fresh : added_) of_->parts_.push_back(std::move(fresh));
        }

    private:
        /// A copy of the part, which will take its place; nothing where there is none.
        [[nodiscard]] catalog_part* change(segment_id id) {
            for (auto const& p : changed_)
                if (p->id == id) return p.get();
            auto const now = of_->part(id);
            if (!now) return nullptr;
            changed_.push_back(std::make_shared<catalog_part>(*now));
            return changed_.back().get();
        }
        catalog* of_;
        std::vector<std::shared_ptr<catalog_part>> changed_{};
        std::vector<std::shared_ptr<catalog_part>> added_{};
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
        for (auto p = parts_.rbegin(); p != parts_.rend(); ++p)
            for (auto const& r : (*p)->counted)
                if (r.contains(at)) return *p;
        return nullptr;
    }
    /// The first LSN at or behind `at` that any part has; 0 where none.
    [[nodiscard]] lsn next_counted(lsn at) const {
        std::lock_guard const hold{m_};
        lsn best{};
        for (auto const& p : parts_)
            for (auto const& r : p->counted)
                if (r.last >= at && !r.empty()) {
                    auto const here = std::max(r.first, at);
                    if (!best || here < best) best = here;
                }
        return best;
    }
    /// Parts none of whose records are behind `upto`; not the open one.
    [[nodiscard]] std::vector<catalog_part> wholly_at_or_below(lsn upto) const {
        std::lock_guard const hold{m_};
        std::vector<catalog_part> out;
        for (auto const& p : parts_)
            if (!p->open && std::ranges::all_of(p->counted, [&](auto const& r) { return r.last <= upto; }))
                out.push_back(*p);
        return out;
    }
    /// All parts, in the order of the log.
    [[nodiscard]] std::vector<std::shared_ptr<catalog_part const>> all() const {
        std::lock_guard const hold{m_};
        return {parts_.begin(), parts_.end()};
    }
    [[nodiscard]] bool pinned(segment_id id) const {
        std::lock_guard const hold{m_};
        auto const at = pins_.find(id);
        return at != pins_.end() && !at->second.expired();
    }
    /// Forgets the part; who still reads it keeps it pinned.
    void retire(segment_id id) {
        std::lock_guard const hold{m_};
        std::erase_if(pins_, [](auto const& entry) { return entry.second.expired(); });
        for (auto const& p : parts_)
            if (p->id == id) pins_[id] = p->pin;
        std::erase_if(parts_, [&](auto const& p) { return p->id == id; });
    }

private:
    static void forget_after(catalog_part& p, lsn last) noexcept {
        for (auto& r : p.counted) r.last = std::min(r.last, last);
        std::erase_if(p.counted, [](auto const& r) { return r.empty(); });
    }
    [[nodiscard]] std::shared_ptr<catalog_part const> part(segment_id id) const {
        std::lock_guard const hold{m_};
        for (auto const& p : parts_)
            if (p->id == id) return p;
        return nullptr;
    }

    mutable std::mutex m_;
    std::vector<std::shared_ptr<catalog_part>> parts_{};
    std::map<segment_id, std::weak_ptr<void const>> pins_{};
};

} // namespace keel::inline v0::wal

#endif
