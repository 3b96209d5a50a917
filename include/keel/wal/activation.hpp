// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_ACTIVATION_HPP
#define KEEL_WAL_ACTIVATION_HPP

// Makes a prepared segment the active one, in three steps.
//   prepare()  gets the file, the mapping and the memory. It may fail or throw; then nothing has changed and the segment stays prepared
//   write()    writes the header and the first frames. After a failure this file is not used again, because a part of them may be in it
//   install()  makes the segment the active one. It cannot fail
//
// On the disk: the segment's name and its registration are durable before activation (wal/segment_pool.hpp). The header and the first group
// are in the same file and are synced together. So no record of the segment is acknowledged before the header is durable.

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

    /// Opens the segment that is activated next. `previous`: the link to the segment before, as the header stores it. `first`: the first
    /// LSN of the segment. `void_from`: this LSN and all above it no longer count in any older segment; lsn{}: all of them count. `wanted`:
    /// the room that the segment must have. `from`: whether the segment may be taken from the reserve if the disk is full. Records that are
    /// staged after this call belong to the new segment. Throws std::bad_alloc.
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
    /// The first frames of the segment: a start mark, then the frames that the caller adds.
    [[nodiscard]] frame_group& group() noexcept { return group_; }
    /// The catalog update that install() commits. It contains the new segment; the caller may add changes to other segments.
    [[nodiscard]] catalog::update& listing() noexcept { return listing_; }

    /// Writes the header. With `synced`, also writes the group and syncs both, so that they survive power loss. Without `synced`, the
    /// mapped path stores the group; the written path leaves the group to install(), which makes it pending.
    [[nodiscard]] result<void> write(leader&, bool synced) {
        of_->pool.take_first_ready(); // even if the write fails: nothing else is written to this file
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
    /// Makes the segment the active one. `synced`: the value that write() got. Precondition: write() succeeded.
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
    /// The segment as the catalog lists it for readers.
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
