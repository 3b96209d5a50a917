// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_LOG_SCENE_HPP
#define KEEL_TESTS_SUPPORT_LOG_SCENE_HPP

// A log as its inventory and the scans of its segments would show it, made by hand: no file, no disk.

#include <keel/recovery/classify.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace keel::test {

using namespace keel::recovery;

/// Segments of one store as a scan would have found them. Frames of 100 bytes a record, the first at 512.
class scene {
public:
    scene() {
        stock.exists = true;
        stock.manifest.state.emplace();
    }

    struct one {
        scene& all;
        std::size_t i;
        found_segment& seg() { return all.stock.segments[i]; }
        segment_run& run() { return all.runs[i]; }

        one& has(std::uint64_t from, std::uint64_t to) {
            auto const begin = end();
            run().extents.push_back({{{from}, {to}}, begin, begin + 100 * (to - from + 1)});
            run().records += to - from + 1;
            run().last = std::max(run().last, lsn{to});
            run().data_end = run().tag_end = end();
            return *this;
        }
        one& bad(bad_bytes b) {
            if (b.offset == 0) b.offset = end();
            if (b.length == 0) b.length = 100;
            run().tag_end = std::max(run().tag_end, b.offset + b.length);
            run().bad.push_back(b);
            return *this;
        }
        one& mark(std::uint64_t durable) {
            run().marked = {durable};
            return *this;
        }
        one& sealed() {
            auto& r = run();
            seg().entry.seal = format::segment_seal{.id = seg().entry.id,
                                                    .salt = seg().entry.salt,
                                                    .range = {seg().geometry.first, r.last},
                                                    .count = r.records,
                                                    .data_end = r.data_end,
                                                    .aggregate = r.aggregate,
                                                    .chain = 77};
            all.stock.state.segments[seg().entry.id] = seg().entry;
            return *this;
        }
        one& cut(std::uint64_t at) {
            seg().header->void_from = {at};
            return *this;
        }
        one& follows(std::uint64_t id, format::segment_end how, std::uint64_t kept_end = 0) {
            seg().header->previous = {
                .id = {id}, .salt = salt(id), .end = kept_end, .aggregate = 999, .chain = 77, .ended = how};
            return *this;
        }
        [[nodiscard]] std::uint64_t end() const {
            auto at = std::uint64_t{512};
            for (auto const& e : all.runs[i].extents) at = std::max(at, e.end);
            for (auto const& b : all.runs[i].bad) at = std::max(at, b.offset + b.length);
            return at;
        }
    };

    one segment(std::uint64_t id, std::uint64_t first) {
        found_segment s;
        s.entry = {.id = {id}, .salt = salt(id), .size = 4096, .place = {id}};
        s.registered = s.present = true;
        s.path = "db/log/" + wal::layout::segment_name({id});
        s.file_bytes = 4096;
        s.header.emplace();
        s.header->id = s.header->place = {id};
        s.header->salt = salt(id);
        s.header->first = {first};
        s.header->state = format::segment_state::active;
        s.geometry = {.id = {id}, .salt = salt(id), .first = {first}, .begin = 512, .limit = 3072};
        stock.state.segments[{id}] = s.entry;
        stock.segments.push_back(std::move(s));
        runs.emplace_back().data_end = 512;
        runs.back().tag_end = 512;
        return {*this, runs.size() - 1};
    }
    scene& note(std::uint64_t accepted, std::uint64_t durable, bool own) {
        stock.note = format::note{.accepted = {accepted}, .durable = {durable}};
        stock.note_is_own = own;
        return *this;
    }
    [[nodiscard]] verdict judge() const { return classify(stock, runs); }

    static std::uint64_t salt(std::uint64_t id) { return format::salt_of({id}, 5); }

    inventory stock{wal::layout{"db"}};
    std::vector<segment_run> runs{};
};

} // namespace keel::test

#endif
