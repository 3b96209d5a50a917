// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_ACTIVATION_HPP
#define KEEL_WAL_ACTIVATION_HPP

// Making a prepared segment the active one, in three steps. prepare() gets file, mapping and memory: it may fail or throw, nothing has
// changed, and the segment stays prepared. write() puts header and first frames into the file: after a failure that file is not used
// again, because some of it may be there. install() cannot fail.
//
// What is on the disk: the segment's name and its registration were durable before (wal/segment_pool.hpp). Its header is synced with the first
// group, in the same file, so nothing in it is acknowledged before.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/observe/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/write_state.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace keel::inline v0::wal {

template <class State>
class activation {
public:
    using segment_type = typename State::segment_type;
    using C = typename State::C;
    using leader = typename State::leader;
    static constexpr bool mapped = State::mapped;

    /// `previous`: what the header says of the segment before. `first`: the first LSN it takes. `void_from`: LSNs from there on count in no
    /// segment before this one; none: all count. `wanted`: what it must have room for. Records that are staged from here on lie in it. Throws
    /// std::bad_alloc.
    [[nodiscard]] static result<activation> prepare(State& of, leader&, format::segment_link const& previous, lsn first,
                                                    lsn void_from, segment_demand const& wanted, space_policy from) {
        KEEL_TRY_LET(next, of.pool.first_ready(wanted, from));
        KEEL_TRY_LET(file, of.pool.fs().open(of.pool.paths().segment(next.id), io::access::read_write,
                                             io::creation::must_exist));
        std::optional<typename segment_type::mapping_type> mapping;
        if constexpr (mapped) {
            KEEL_TRY_LET(map, file.map(io::access::read_write));
            mapping.emplace(std::move(map));
        }
        activation out{of};
        out.fresh_ = std::make_unique<segment_type>(typename segment_type::origin{.id = next.id,
                                                                                  .salt = next.salt,
                                                                                  .bytes = next.bytes,
                                                                                  .branch = of.pool.branch(),
                                                                                  .previous = previous,
                                                                                  .first = first,
                                                                                  .void_from = void_from,
                                                                                  .now_ns = of.clock_ns()},
                                                    std::move(file), std::move(mapping),
                                                    std::exchange(of.index_memory, {}));
        out.group_.reset(segment_type::frames_begin);
        out.mark_ = out.fresh_->encode_mark(out.group_, format::mark_kind::start, first.before(), of.durable,
                                            of.clock_ns());
        out.listing_.add(out.part());
        of.sink.begin(next.id);
        return out;
    }

    [[nodiscard]] segment_type& segment() noexcept { return *fresh_; }
    /// What is written first: a mark, and what the caller adds.
    [[nodiscard]] frame_group& group() noexcept { return group_; }
    /// What the catalog learns when it is installed, beside the segment itself.
    [[nodiscard]] catalog::update& listing() noexcept { return listing_; }

    /// Header and group are in the file; with `synced` they survive power loss, too.
    [[nodiscard]] result<void> write(leader&, bool synced) {
        of_->pool.take_first_ready(); // whatever becomes of it: nothing else is written to this file
        KEEL_TRY(fresh_->write_header(header()));
        if (synced || !mapped) {
            if (synced) {
                KEEL_TRY(fresh_->write(group_));
                KEEL_TRY(fresh_->sync_file());
            }
            return {};
        }
        return fresh_->store(group_);
    }
    /// `synced`: as it was written.
    void install(leader&, bool synced) noexcept {
        auto& s = *of_;
        s.active = std::move(fresh_);
        s.encoded_mark = mark_;
        s.segment_usable = false;
        s.store_failed.reset();
        s.durable_tail.reset(segment_type::frames_begin);
        if (synced || mapped) { // the group is in the file
            s.active->is_in_file(group_);
            s.pending.reset(s.active->end());
        } else {
            std::swap(s.pending, group_); // written with the first group
        }
        if (synced) s.active->note_synced(s.active->newest_block_batch());
        listing_.commit();
        s.has_written = true;
        s.events.push(observe::segment_activated{s.active->id(), s.active->first()});
    }

private:
    explicit activation(State& of) : of_{&of}, listing_{of.parts} {}

    [[nodiscard]] format::segment_header header() const noexcept {
        format::segment_header h{
            .checksum = checksum_id{C::id}, .store = of_->pool.store(), .id = fresh_->id(), .salt = fresh_->salt()};
        h.branch = of_->pool.branch();
        h.created_ns = fresh_->created_ns();
        h.size = fresh_->bytes();
        h.first = fresh_->first();
        h.durable_mark = of_->durable;
        h.durable_edit = of_->pool.durable_edit();
        h.void_from = fresh_->void_from();
        h.place = fresh_->id();
        h.state = format::segment_state::active;
        h.previous = fresh_->previous();
        return h;
    }
    /// As readers find it.
    [[nodiscard]] catalog_part part() const {
        return {.id = fresh_->id(),
                .place = fresh_->id(),
                .path = fresh_->path(),
                .salt = fresh_->salt(),
                .first = fresh_->first(),
                .begin = segment_type::frames_begin,
                .limit = fresh_->limit(),
                .open = true,
                .counted = {{fresh_->first(), lsn_max}}};
    }

    State* of_;
    std::unique_ptr<segment_type> fresh_{};
    frame_group group_{};
    lsn mark_{};
    catalog::update listing_;
};

} // namespace keel::inline v0::wal

#endif
