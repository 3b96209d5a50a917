// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SNAPSHOT_LIST_HPP
#define KEEL_ENGINE_SNAPSHOT_LIST_HPP

// The snapshots that are in use. Compaction keeps the versions that they see.
//
// Thread rules: any number of threads. One mutex, held only while a small tree is searched or changed. Taking a snapshot and registering it
// is one step: otherwise compaction could pass a snapshot that is not registered yet.

#include <keel/types.hpp>

#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace keel::inline v0::detail {

class snapshot_list : public std::enable_shared_from_this<snapshot_list> {
public:
    /// A registered snapshot. The destructor removes it from the list.
    class pinned_snapshot {
    public:
        pinned_snapshot(std::shared_ptr<snapshot_list> of, lsn at) : of_{std::move(of)}, at_{at} {}
        pinned_snapshot(pinned_snapshot const&) = delete;
        pinned_snapshot& operator=(pinned_snapshot const&) = delete;
        ~pinned_snapshot() { of_->release(at_); }

        [[nodiscard]] lsn at() const noexcept { return at_; }
        [[nodiscard]] snapshot_list const* of() const noexcept { return of_.get(); }

    private:
        std::shared_ptr<snapshot_list> of_;
        lsn at_;
    };

    /// Registers a snapshot at `now()`. `now()` is called under the mutex and must never return less than before.
    template <class Now>
    [[nodiscard]] std::shared_ptr<pinned_snapshot const> take(Now const& now) {
        auto const self = shared_from_this();
        std::lock_guard const locked{m_};
        registration of_this{held_, held_.insert(now())};
        auto out = std::make_shared<pinned_snapshot const>(self, *of_this.at);
        of_this.kept = true; // from here on the destructor of `out` removes it
        return out;
    }
    /// All registered LSNs in order, each once, and then `now()`. Snapshots taken later are not older than `now()`.
    template <class Now>
    [[nodiscard]] std::vector<lsn> all(Now const& now) const {
        std::lock_guard const locked{m_};
        std::vector<lsn> out;
        for (auto const at : held_)
            if (out.empty() || out.back() != at) out.push_back(at);
        out.push_back(now());
        return out;
    }

private:
    /// Removes the LSN again if making its pinned_snapshot fails. Otherwise it would stay registered for ever, and compaction would keep
    /// all versions that it sees.
    struct registration {
        std::multiset<lsn>& in;
        std::multiset<lsn>::iterator at;
        bool kept = false;

        registration(std::multiset<lsn>& all, std::multiset<lsn>::iterator where) noexcept : in{all}, at{where} {}
        registration(registration const&) = delete;
        registration& operator=(registration const&) = delete;
        ~registration() {
            if (!kept) in.erase(at);
        }
    };

    void release(lsn at) {
        std::lock_guard const locked{m_};
        held_.erase(held_.find(at));
    }
    mutable std::mutex m_;
    std::multiset<lsn> held_{};
};

} // namespace keel::inline v0::detail

#endif
