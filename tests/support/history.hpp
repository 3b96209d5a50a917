// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_HISTORY_HPP
#define KEEL_TESTS_SUPPORT_HISTORY_HPP

// Judges histories of concurrent transactions by their serialization graph: an edge leads from a transaction to one that must come
// after it. After A. Adya, B. Liskov, P. O'Neil, "Generalized isolation level definitions", ICDE 2000. Every write is told apart by
// its writer, and the versions of a key are in the order of the commits.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace keel::test {

/// What one transaction saw and did. Numbers of transactions count from 1; 0 wrote what was there at the beginning.
struct transaction_record {
    std::uint64_t number = 0;
    std::uint64_t committed_at = 0;               ///< an order among commits; 0: it did not commit
    std::map<std::string, std::uint64_t> reads{}; ///< key -> who wrote the version that was read (never itself)
    std::vector<std::string> writes{};
};

enum class anomaly : std::uint8_t {
    none,
    dirty_read,  ///< of a transaction that did not commit
    lost_update, ///< two that read the same version of a key and both wrote it
    read_skew,   ///< some of another one's writes were seen and some were not
    write_skew,  ///< each read what the other one then wrote
};

[[nodiscard]] inline char const* name_of(anomaly a) {
    switch (a) {
    case anomaly::none: return "none";
    case anomaly::dirty_read: return "dirty read";
    case anomaly::lost_update: return "lost update";
    case anomaly::read_skew: return "read skew";
    case anomaly::write_skew: return "write skew";
    }
    return "unknown";
}

namespace detail {

class history_judge {
public:
    explicit history_judge(std::vector<transaction_record> const& all) {
        for (auto const& t : all)
            if (t.committed_at != 0) committed_.push_back(&t);
        for (std::size_t i = 0; i < committed_.size(); ++i) index_[committed_[i]->number] = i;
    }

    /// The worst there is.
    [[nodiscard]] anomaly run() {
        for (auto const* t : committed_)
            for (auto const& [key, writer] : t->reads)
                if (writer != 0 && !index_.contains(writer)) return anomaly::dirty_read;
        order_versions();
        if (lost_update()) return anomaly::lost_update;
        add_edges();
        // A cycle with one anti-dependency only shows a torn view; every other one needs two.
        for (auto const& [from, to] : anti_)
            if (reaches(to, from, false)) return anomaly::read_skew;
        for (std::size_t i = 0; i < committed_.size(); ++i)
            for (auto const next : edges_[i])
                if (reaches(next, i, false)) return anomaly::read_skew;
        for (auto const& [from, to] : anti_)
            if (reaches(to, from, true)) return anomaly::write_skew;
        return anomaly::none;
    }

private:
    void order_versions() {
        for (std::size_t i = 0; i < committed_.size(); ++i)
            for (auto const& key : committed_[i]->writes) versions_[key][committed_[i]->committed_at] = i;
    }

    [[nodiscard]] bool lost_update() const {
        for (auto const& [key, order] : versions_) {
            std::map<std::uint64_t, int> updates_of; // version read -> how many wrote on top of it
            for (auto const& [at, i] : order)
                if (auto const read = committed_[i]->reads.find(key); read != committed_[i]->reads.end())
                    if (++updates_of[read->second] > 1) return true;
        }
        return false;
    }

    void add_edges() {
        edges_.assign(committed_.size(), {});
        anti_edges_.assign(committed_.size(), {});
        for (auto const& [key, order] : versions_) {
            std::size_t const* before = nullptr;
            for (auto const& [at, i] : order) {
                if (before != nullptr) edges_[*before].push_back(i);
                before = &i;
            }
        }
        for (std::size_t i = 0; i < committed_.size(); ++i)
            for (auto const& [key, writer] : committed_[i]->reads) {
                std::uint64_t read_at = 0;
                if (writer != 0) {
                    auto const w = index_.at(writer);
                    read_at = committed_[w]->committed_at;
                    if (w != i) edges_[w].push_back(i);
                }
                auto const order = versions_.find(key);
                if (order == versions_.end()) continue;
                auto const next = order->second.upper_bound(read_at);
                if (next == order->second.end() || next->second == i) continue;
                anti_.emplace_back(i, next->second);
                anti_edges_[i].push_back(next->second);
            }
    }

    [[nodiscard]] bool reaches(std::size_t from, std::size_t to, bool anti_too) const {
        std::vector<bool> seen(committed_.size(), false);
        std::vector<std::size_t> open{from};
        while (!open.empty()) {
            auto const at = open.back();
            open.pop_back();
            if (at == to) return true;
            if (seen[at]) continue;
            seen[at] = true;
            open.insert(open.end(), edges_[at].begin(), edges_[at].end());
            if (anti_too) open.insert(open.end(), anti_edges_[at].begin(), anti_edges_[at].end());
        }
        return false;
    }

    std::vector<transaction_record const*> committed_{};
    std::map<std::uint64_t, std::size_t> index_{};
    std::map<std::string, std::map<std::uint64_t, std::size_t>> versions_{};
    std::vector<std::vector<std::size_t>> edges_{};      ///< write-write and write-read
    std::vector<std::vector<std::size_t>> anti_edges_{}; ///< read-write: read a version that the other one replaced
    std::vector<std::pair<std::size_t, std::size_t>> anti_{};
};

} // namespace detail

[[nodiscard]] inline anomaly worst_anomaly(std::vector<transaction_record> const& history) {
    return detail::history_judge{history}.run();
}

} // namespace keel::test

#endif
