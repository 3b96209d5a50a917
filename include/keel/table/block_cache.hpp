// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_BLOCK_CACHE_HPP
#define KEEL_TABLE_BLOCK_CACHE_HPP

// Verified blocks of indexes and tables, so that a block is read and verified once for many look-ups. Bounded in bytes; a block that was
// used since it was last considered gets a second chance before it goes (the clock algorithm: a look-up changes one flag, no list).
//
// Thread rules: any number of threads. One mutex per shard, held for a look-up or an insertion, never during I/O. A block that
// somebody holds stays alive when the cache lets it go.

#include <keel/types.hpp>

#include <array>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

class block_cache {
public:
    using block = std::shared_ptr<std::vector<std::byte> const>;
    /// Which block: the file's life (its salt) and the offset in it.
    struct name {
        std::uint64_t salt = 0;
        std::uint64_t offset = 0;
        bool operator==(name const&) const = default;
    };

    explicit block_cache(std::size_t bytes_max) : shard_bytes_max_{bytes_max / shards} {}

    /// Nothing where it is not held.
    [[nodiscard]] block find(name which) {
        auto& s = shard_of(which);
        std::lock_guard const hold{s.m};
        auto const at = s.where.find(which);
        if (at == s.where.end()) return nullptr;
        at->second->used = true;
        return at->second->what;
    }
    /// Takes a block that was verified.
    void add(name which, block what) {
        auto& s = shard_of(which);
        std::lock_guard const hold{s.m};
        if (s.where.contains(which)) return;
        s.bytes += what->size();
        s.held.push_front({.which = which, .what = std::move(what)});
        s.where.emplace(which, s.held.begin());
        while (s.bytes > shard_bytes_max_ && s.held.size() > 1) {
            auto& oldest = s.held.back();
            if (oldest.used && &oldest != &s.held.front()) {
                oldest.used = false;
                s.held.splice(s.held.begin(), s.held, std::prev(s.held.end()));
                continue;
            }
            s.bytes -= oldest.what->size();
            s.where.erase(oldest.which);
            s.held.pop_back();
        }
    }
    [[nodiscard]] std::size_t bytes() const {
        std::size_t all = 0;
        for (auto const& s : shards_) {
            std::lock_guard const hold{s.m};
            all += s.bytes;
        }
        return all;
    }

private:
    static constexpr std::size_t shards = 16;
    struct hash {
        std::size_t operator()(name const& n) const noexcept {
            auto h = n.salt ^ n.offset * 0x9E3779B97F4A7C15ULL;
            h ^= h >> 32;
            return static_cast<std::size_t>(h * 0xD6E8FEB86659FD93ULL);
        }
    };
    struct entry {
        name which;
        block what;
        bool used = false;
    };
    using entries = std::list<entry>;
    struct alignas(64) shard {
        mutable std::mutex m;
        entries held{}; ///< the one considered next is last
        std::unordered_map<name, entries::iterator, hash> where{};
        std::size_t bytes = 0;
    };
    [[nodiscard]] shard& shard_of(name const& which) noexcept { return shards_[hash{}(which) >> 60]; }

    std::size_t shard_bytes_max_;
    std::array<shard, shards> shards_{};
};

} // namespace keel::inline v0::table

#endif
