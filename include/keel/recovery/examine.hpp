// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_EXAMINE_HPP
#define KEEL_RECOVERY_EXAMINE_HPP

// Takes the inventory, scans the segments and classifies the result. Segments are scanned in parallel, each into its own run, without
// shared state. Only `before_scan` may write. The engine, the log and the tool all start from this.
//
// Memory: one window for each thread and one run for each segment. A run holds extents and damage, no records.

#include <keel/format/index.hpp>
#include <keel/io/thread.hpp>
#include <keel/options.hpp>
#include <keel/recovery/classify.hpp>
#include <keel/recovery/mount.hpp>
#include <keel/recovery/report.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/recovery/take_inventory.hpp>
#include <keel/table/check_table.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// Everything that is known about a store before a repair.
struct examination {
    explicit examination(inventory what) : stock{std::move(what)} {}
    inventory stock;
    std::vector<segment_run> runs{};
    verdict found{};
    recovery_report report{};
};

namespace detail {

using clock = std::chrono::steady_clock;

/// Runs `job(i)` for i in [0, count) on `threads` threads, and `tick()` on the calling thread meanwhile. Rethrows the first exception.
template <class Job, class Tick>
void in_parallel(std::size_t count, unsigned threads, Job const& job, Tick const& tick) {
    if (threads <= 1) {
        for (std::size_t i = 0; i < count; ++i) {
            job(i);
            tick();
        }
        return;
    }
    std::atomic<std::size_t> next{0}; // relaxed: it only hands out numbers; joining the threads publishes their results
    std::mutex m;
    std::condition_variable done_cv;
    unsigned running = 0;
    std::exception_ptr thrown;
    auto const work = [&] {
        std::exception_ptr mine;
        try {
            for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) job(i);
        } catch (...) {
            mine = std::current_exception();
            next.store(count, std::memory_order_relaxed);
        }
        std::lock_guard const hold{m};
        if (mine && !thrown) thrown = mine;
        if (--running == 0) done_cv.notify_one();
    };
    std::vector<std::jthread> crew;
    crew.reserve(threads);
    for (unsigned t = 0; t < threads; ++t) {
        std::unique_lock hold{m};
        ++running;
        hold.unlock();
        if (!io::start_thread([&] { crew.emplace_back(work); })) { // the threads started, or this one, do all the work
            hold.lock();
            --running;
            break;
        }
    }
    if (crew.empty()) {
        ++running;
        work();
    }
    std::unique_lock hold{m};
    while (running != 0) {
        done_cv.wait_for(hold, std::chrono::milliseconds(50));
        hold.unlock();
        tick();
        hold.lock();
    }
    hold.unlock();
    crew.clear();
    if (thrown) std::rethrow_exception(thrown);
}

[[nodiscard]] inline unsigned thread_count(open_options const& options, std::size_t segments) noexcept {
    if (segments <= 1) return 1; // no need to ask the machine for its cores
    auto const cores = std::max(1U, std::thread::hardware_concurrency());
    auto threads = options.recovery_threads != 0 ? options.recovery_threads : std::min(cores, 8U);
    auto const memory = options.memory_limit != 0 ? options.memory_limit : 8 * MiB;
    auto const by_memory = std::max<std::uint64_t>(1, memory / (2 * wal::window<int>::default_bytes));
    threads = static_cast<unsigned>(std::min<std::uint64_t>(threads, by_memory));
    return static_cast<unsigned>(std::clamp<std::size_t>(threads, 1, std::max<std::size_t>(segments, 1)));
}

/// Sets the LSNs of the oldest and the newest record kept, in tables or in the log.
inline void set_range(recovery_report& r, inventory const& stock, std::vector<counted_range> const& counted) {
    r.first_lsn = counted.empty() ? lsn{} : counted.front().range.first;
    r.last_lsn = counted.empty() ? lsn{} : counted.back().range.last;
    for (auto const& [id, t] : stock.state.tables)
        r.first_lsn = r.first_lsn ? std::min(r.first_lsn, t.lsns.first) : t.lsns.first;
    r.last_lsn = std::max(r.last_lsn, stock.state.log_start_lsn); // compaction may have kept none of these records
}

inline void fill_report(examination& e) {
    auto& r = e.report;
    auto const& v = e.found;
    r.clean_close = v.clean_close;
    r.tables = e.stock.state.tables.size();
    for (auto const& [id, t] : e.stock.state.tables) r.table_records += t.records;
    for (auto const& s : e.stock.segments) {
        r.mounted_segments += s.mounted;
        if (!s.chunks.empty()) r.indexed_records += s.chunks.back().last;
    }
    r.segments = e.stock.segments.size();
    for (auto const& c : v.counted) r.records += c.range.size();
    for (auto const& run : e.runs) {
        r.bytes += run.bytes;
        r.transient_mismatches += run.transient;
    }
    r.corrupted_segments = v.damaged_segments.size();
    r.healed_records = v.healed;
    for (auto const& l : v.lost) r.lost_records += l.size();
    r.corrupted_records = r.lost_records + r.healed_records;
    r.skipped_records = v.behind_cut;
    r.torn_tail_bytes = v.torn_tail_bytes;
    r.lost_lsn_ranges = v.lost;
    r.unknown_extents = v.unknown;
    set_range(r, e.stock, v.counted);
    r.horizon = v.horizon;
    for (auto const* list : {&std::as_const(e.stock.findings), &v.findings})
        for (auto const& f : *list) {
            if (r.findings.size() == recovery_report::findings_max) break;
            r.findings.push_back(f);
        }
    for (auto const& f : e.stock.findings)
        if (f.kind == damage::missing_segment || f.kind == damage::headers_lost || f.kind == damage::wrong_size)
            ++r.corrupted_segments;
}

} // namespace detail

namespace detail {

/// A frame with its own bytes. Its views point into them.
struct frame_copy {
    std::vector<std::byte> bytes{};
    format::frame_view frame{};
};
/// Reads the frame at a place. Returns nothing if it ends behind `limit`, has another type, cannot be read or does not verify. Two reads.
template <checksum_policy C, class File>
[[nodiscard]] std::optional<frame_copy> copy_frame(File const& file, format::frame_place place, std::uint64_t limit,
                                                   format::frame_type type) {
    frame_copy out;
    auto const at = place.offset;
    if (at > limit || limit - at < format::frame_header_bytes) return std::nullopt;
    out.bytes.resize(format::frame_header_bytes);
    auto const head = file.read(at, out.bytes);
    if (!head || *head != out.bytes.size()) return std::nullopt;
    auto const peek = format::peek_frame(out.bytes.data(), place, limit - at);
    if (peek.state != format::frame_state::intact || peek.header.type != type) return std::nullopt;
    out.bytes.resize(static_cast<std::size_t>(peek.bytes())); // within the limit: peek_frame() has checked that
    auto const all = file.read(at, out.bytes);
    if (!all || *all != out.bytes.size()) return std::nullopt;
    out.frame = format::read_frame<C>(out.bytes, place);
    if (out.frame.state != format::frame_state::intact) return std::nullopt;
    return out;
}

/// The run of a mounted segment, as a scan would have given it.
template <checksum_policy C, class Fs>
[[nodiscard]] segment_run run_of_seal(Fs& fs, found_segment const& s, bool newest) {
    auto const& seal = *s.entry.seal;
    segment_run run;
    auto const add = [&](lsn_range r) { run.extents.push_back({r, s.geometry.begin, seal.data_end}); };
    if (s.holds.empty()) add(seal.range);
    for (auto const& r : s.holds) add(r);
    run.last = seal.range.last;
    run.records = seal.count;
    run.data_end = run.tag_end = seal.data_end;
    run.aggregate = seal.aggregate;
    run.first_time_ns = seal.first_time_ns;
    run.last_time_ns = seal.last_time_ns;
    if (!newest) return run;
    // After an orderly close the last frame is a close mark.
    constexpr auto mark_bytes = format::frame_bytes(format::mark_bytes);
    if (seal.data_end < s.geometry.begin + mark_bytes) return run;
    auto file = fs.open(s.path, io::access::read_only, io::creation::must_exist);
    if (!file) return run;
    auto const last = copy_frame<C>(*file, {seal.salt, seal.data_end - mark_bytes}, seal.data_end,
                                    format::frame_type::mark);
    auto const mark = last ? format::decode_mark(last->frame.payload) : std::nullopt;
    run.closed = mark && mark->kind == format::mark_kind::close;
    return run;
}

/// The chunks of the newest segment that have an index in the log and whose records are all known to have been accepted.
/// Only the notes of this boot, in the file that wrote them, prove that. Reads one frame. Returns no chunks if that frame
/// does not verify or does not fit.
template <checksum_policy C, class File>
[[nodiscard]] std::vector<format::indexed_chunk> indexed_chunks(File const& file, inventory const& stock,
                                                                found_segment const& s) {
    bool const told = stock.note && stock.note_is_own && stock.note->newest_index != 0 &&
                      stock.note->segment == s.entry.id && s.registered && s.header && !s.entry.seal &&
                      s.file_bytes == s.entry.size && s.entry.place == s.entry.id;
    if (!told) return {};
    auto const at = stock.note->newest_index;
    if (at % format::frame_alignment != 0 || at < s.geometry.begin) return {};
    auto const index = copy_frame<C>(file, {s.entry.salt, at}, s.geometry.limit, format::frame_type::index);
    if (!index) return {};
    auto chunks = format::decode_chunks(index->frame.payload, at, s.entry.size);
    if (!chunks) return {};
    std::erase_if(*chunks, [&](auto const& c) {
        return s.lsn_of(c.last) > stock.note->accepted; // LSNs ascend: the chunks that stay are the first ones
    });
    return std::move(*chunks);
}

/// Reads every byte of every table present. Adds its findings to those of the inventory.
template <class Config>
[[nodiscard]] result<void> examine_tables(typename Config::file_system& fs, inventory& stock,
                                          std::stop_token const& cancel) {
    for (auto const& [id, t] : stock.state.tables) {
        if (t.is_placeholder() || std::ranges::binary_search(stock.missing_tables, id)) continue;
        if (cancel.stop_requested()) break; // the caller returns `cancelled`
        auto const path = stock.paths.table(id);
        KEEL_TRY_LET(seen, (table::check_table<typename Config::checksum, typename Config::compression>(
                               fs, path, stock.paths.inside(path), t, [](table::version const&) {}, cancel)));
        for (auto& f : seen.findings) stock.findings.push_back(std::move(f));
    }
    return {};
}

/// Whether the owner of a sink needs an index of every segment.
template <class Sink>
inline constexpr bool needs_index = requires { requires Sink::needs_index; };

} // namespace detail

/// Takes the inventory, scans and classifies. `sinks[i]` receives the verified records of segment i. `before_scan(stock)` may stop it
/// with an error and may seal segments. It returns the number of segments sealed. Errors: those of take_inventory() and of before_scan;
/// cancelled; an existing segment cannot be opened.
template <class Config, scan_sink Sink, class BeforeScan>
[[nodiscard]] result<examination> examine(typename Config::file_system& fs, std::string directory,
                                          open_options const& options, std::vector<Sink>& sinks,
                                          BeforeScan const& before_scan) {
    auto const started = detail::clock::now();
    KEEL_TRY_LET(stock, take_inventory<Config>(fs, std::move(directory), options.cancel));
    using mounter = detail::mounter<typename Config::checksum, typename Config::file_system>;
    auto const mount = [&] {
        if (options.verify == verify_depth::quick) mounter{fs, stock, detail::needs_index<Sink>}.run();
    };
    mount();
    KEEL_TRY_LET(sealed, before_scan(stock));
    if (sealed != 0) mount();
    examination e{std::move(stock)};
    e.report.sealed_segments = sealed;
    auto const scanning = detail::clock::now();
    e.report.inventory_time = scanning - started;
    auto const count = e.stock.segments.size();
    e.runs.resize(count);
    sinks.resize(count);
    // A mounted segment needs no scan.
    std::vector<std::size_t> to_scan;
    for (std::size_t i = 0; i < count; ++i) {
        auto const& s = e.stock.segments[i];
        if (s.mounted) e.runs[i] = detail::run_of_seal<typename Config::checksum>(fs, s, i + 1 == count);
        else to_scan.push_back(i);
    }
    e.report.threads = detail::thread_count(options, to_scan.size());

    std::atomic<std::uint64_t> bytes_done{0}; // relaxed: only for progress reports
    std::atomic<std::uint64_t> segments_done{0};
    std::uint64_t bytes = 0;
    for (auto const i : to_scan) bytes += e.stock.segments[i].geometry.limit - e.stock.segments[i].geometry.begin;
    auto const tell = [&] {
        if (!options.on_progress) return;
        recovery_progress p{.phase = recovery_phase::scan,
                            .segments_done = segments_done.load(std::memory_order_relaxed),
                            .segments = to_scan.size()};
        p.bytes = bytes;
        p.bytes_done = std::min(bytes, bytes_done.load(std::memory_order_relaxed));
        p.elapsed = detail::clock::now() - scanning;
        if (p.bytes_done != 0)
            p.left = std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(p.elapsed.count()) *
                                                                        static_cast<double>(bytes - p.bytes_done) /
                                                                        static_cast<double>(p.bytes_done)));
        options.on_progress(p);
    };
    std::vector<std::optional<error>> refused(count);
    auto const scan_one = [&](std::size_t n) {
        auto const i = to_scan[n];
        auto& s = e.stock.segments[i];
        if (!s.present || options.cancel.stop_requested()) return;
        auto file = fs.open(s.path, io::access::read_only, io::creation::must_exist);
        if (!file) {
            refused[i] = std::move(file).error();
        } else {
            using C = typename Config::checksum;
            if (detail::needs_index<Sink> && options.verify == verify_depth::quick && i + 1 == count)
                s.chunks = detail::indexed_chunks<C>(*file, e.stock, s);
            if (!s.chunks.empty())
                s.geometry.indexed = {.range = {s.geometry.first, s.lsn_of(s.chunks.back().last)},
                                      .begin = s.geometry.begin,
                                      .end = s.chunks.back().end};
            e.runs[i] = scan_segment<C>(*file, s.geometry, sinks[i], options.cancel, &bytes_done);
            if (s.footer && options.verify == verify_depth::deep)
                e.runs[i].bad_sections = wal::damaged_blocks<C>(
                    *file, s.entry.salt, s.entry.size, std::span{s.footer->sections}.first(s.footer->section_count));
        }
        segments_done.fetch_add(1, std::memory_order_relaxed);
    };
    tell();
    detail::in_parallel(to_scan.size(), e.report.threads, scan_one, tell);
    tell();
    if (options.verify == verify_depth::deep) KEEL_TRY(detail::examine_tables<Config>(fs, e.stock, options.cancel));
    if (options.cancel.stop_requested())
        return failure(errc::cancelled, "recovery was cancelled; nothing was changed", e.stock.paths.root());
    // A file that exists but cannot be opened is an error of the machine, not damage: no record may be declared lost for it.
    for (auto& why : refused)
        if (why) return failure(std::move(*why));
    e.found = classify(e.stock, e.runs);
    detail::fill_report(e);
    e.report.scan_time = detail::clock::now() - scanning;
    return e;
}

/// Examines every byte, for callers that need no records, only the verdict. Writes nothing.
template <class Config>
[[nodiscard]] result<examination> examine(typename Config::file_system& fs, std::string directory,
                                          open_options const& options) {
    std::vector<no_sink> sinks;
    auto deep = options;
    deep.verify = verify_depth::deep;
    auto const nothing = [](inventory const&) -> result<std::uint64_t> { return std::uint64_t{0}; };
    return examine<Config>(fs, std::move(directory), deep, sinks, nothing);
}

} // namespace keel::inline v0::recovery

#endif
