// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SNAPSHOT_LIST_HPP
#define KEEL_ENGINE_SNAPSHOT_LIST_HPP

// The snapshots that are in use. Compaction keeps the versions that they see.
//
// Thread rules: any number of threads. One mutex, held for a look at a small tree. Taking a snapshot and registering it is one step:
// otherwise compaction could pass a snapshot that is not registered yet.

#include <keel/types.hpp>

#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace keel::inline v0::detail {

class snapshot_list : public std::enable_shared_from_this<snapshot_list> {
public:
    /// A moment that is held as long as this lives.
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

    /// Holds the moment `now()` gives, which does not decrease.
    template <class Now>
    [[nodiscard]] std::shared_ptr<pinned_snapshot const> take(Now const& now) {
        auto const self = shared_from_this();
        std::lock_guard const locked{m_};
        registration of_this{held_, held_.insert(now())};
        auto out = std::make_shared<pinned_snapshot const>(self, *of_this.at);
        of_this.kept = true; // the hold lets go of it from here on
        return out;
    }
    /// All that are held, and `now()`, which no later one is before; in order.
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
    /// A moment whose hold is still being made: without one, nobody would ever let go of it, and nothing behind it would be forgotten.
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
