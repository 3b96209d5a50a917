// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_CARRY_OUT_HPP
#define KEEL_RECOVERY_CARRY_OUT_HPP

// Carries out a repair plan, for an opening or for the tool. Before records are given up for bytes that could not be read,
// the medium is read again. The findings then say what was done about the damage. The repair is carried out, and the damage
// is written to the corruption log.

#include <keel/recovery/corruption_log.hpp>
#include <keel/recovery/loss_ledger.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/repair.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/store_identity.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// The store's lock, held exclusively. It also checks that the names of the store still lead to the locked files.
template <class Config>
using identity_of = std::shared_ptr<wal::store_identity<typename Config::file_system>>;

/// The manifest of the store, ready for edits. Each edit checks `identity` first. A read-only opening passes null.
template <class Config>
[[nodiscard]] auto adopted_manifest(typename Config::file_system& fs, inventory const& stock,
                                    open_options const& options, identity_of<Config> identity) {
    wal::manifest_store<typename Config::checksum, typename Config::file_system> manifest{
        fs, stock.paths, stock.store, stock.branch, options.entropy, options.clock_ns};
    manifest.belongs_to(std::move(identity));
    auto state = stock.state;
    // A segment header may name durable edits that both manifests have lost. Their numbers must not be used again.
    state.edit = std::max(state.edit, stock.manifest.marked);
    manifest.adopt(std::move(state), stock.manifest);
    return manifest;
}

namespace detail {

/// Reads again all bytes that could not be read. If the medium answers now, the trouble was temporary, and the
/// next opening will find the records.
template <class Config>
class medium_check {
public:
    using fs_type = typename Config::file_system;
    explicit medium_check(fs_type& fs) : fs_{fs} {}

    result<void> run(examination const& e) {
        for (auto const& place : e.stock.refused) KEEL_TRY(ask(place.path, place.offset, place.length));
        for (std::size_t i = 0; i < e.runs.size(); ++i)
            for (auto const& bad : e.runs[i].unreadable)
                for (auto at = bad.offset; at < bad.offset + bad.length; at += sector_bytes)
                    KEEL_TRY(ask(e.stock.segments[i].path, at, sector_bytes));
        return {};
    }

private:
    static constexpr std::uint64_t sector_bytes = wal::window<typename fs_type::file>::sector_bytes;

    /// Errors: the medium answers now; or no descriptor or memory is left to open the file.
    [[nodiscard]] result<void> ask(std::string const& path, std::uint64_t offset, std::uint64_t length) {
        auto file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        if (!file && is_shortage(file.error().code)) return failure(std::move(file).error());
        std::vector<std::byte> bytes(static_cast<std::size_t>(length));
        if (file && file->read(offset, bytes)) return answers_again(path, offset);
        return {};
    }
    [[nodiscard]] static result<void> answers_again(std::string const& path, std::uint64_t offset) {
        return failure(
            error{.code = errc::io_error,
                  .message = "the medium could not be read and now answers again: nothing was given up; open once more",
                  .file = path,
                  .offset = offset,
                  .retryable = true});
    }
    fs_type& fs_;
};

} // namespace detail

/// Called before a repair gives up records, or takes an extent for unknown, because bytes could not be read. Errors: io_error, retryable,
/// if these bytes can be read now; a shortage of the machine.
template <class Config>
[[nodiscard]] result<void> ask_the_medium_again(typename Config::file_system& fs, examination const& e,
                                                repair_plan const& plan) {
    bool const gives_up = !e.found.lost.empty() || plan.rewrite_manifest || !plan.segments.empty();
    if (!gives_up && e.found.unknown.empty()) return {};
    return detail::medium_check<Config>{fs}.run(e);
}

/// The result of carrying out a plan.
struct carried_out {
    std::optional<repair_done> done{}; ///< also set if the repair stopped half-way
    result<void> outcome{}; ///< an error: the repair, its entry in the corruption log, or a move did not succeed
};

/// Carries the plan out. If the plan changes nothing, it completes an earlier repair. Afterwards the findings in `e` and `told` say what
/// was done about them. `told` is written to the corruption log. The caller holds the store's lock and has called ask_the_medium_again().
template <class Config>
[[nodiscard]] carried_out carry_out_repair(
    typename Config::file_system& fs, examination& e, repair_plan const& plan, open_options const& options,
    std::string_view strategy, wal::manifest_store<typename Config::checksum, typename Config::file_system>& manifest,
    std::vector<finding>& told) {
    carried_out out;
    out.outcome = finish_moves(fs, e.stock);
    if (!out.outcome) return out;
    if (plan.changes_anything()) {
        auto const how = plan.what == decision::roll_back ? outcome::rolled_back : outcome::declared_lost;
        for (auto* list : {&e.found.findings, &e.report.findings, &told})
            for (auto& f : *list)
                if (f.lost != 0) f.done = how;
        out.done = apply_repair<Config>(fs, e, plan, options, strategy, manifest);
        if (out.done->stopped) out.outcome = failure(*out.done->stopped);
        else if (out.done->unfinished) out.outcome = failure(*out.done->unfinished);
    } else {
        // A missing receipt is no reason not to open the store.
        static_cast<void>(finish_receipt<Config>(fs, e, plan, options, manifest));
    }
    auto logged = log_corruption(fs, e.stock.paths, told, options.clock_ns());
    if (out.outcome && !logged && !e.found.lost.empty())
        out.outcome = logged; // without a loss, a failed log entry is no reason not to open the store
    return out;
}

/// Notes in the ledger that an operator accepts every declared loss and every unknown extent. A registered spare segment whose file is
/// gone and whose extent is unknown is also retired from the manifest. Returns the new ledger. The caller holds the store's lock.
template <class Config>
[[nodiscard]] result<loss_ledger> accept_losses(typename Config::file_system& fs, examination const& e,
                                                loss_ledger const& known, open_options const& options,
                                                identity_of<Config> identity) {
    format::edit_builder edit;
    for (auto const& s : e.stock.spare) {
        bool const unknown = std::ranges::find(e.found.unknown, s.entry.id, &unknown_extent::segment) !=
                             e.found.unknown.end();
        if (!s.present && unknown) edit.retired(s.entry.id);
    }
    if (!edit.empty()) {
        auto manifest = adopted_manifest<Config>(fs, e.stock, options, std::move(identity));
        KEEL_TRY(manifest.commit(edit));
    }
    auto const next = accepted_now(known, e.found.declared, e.report);
    KEEL_TRY(write_ledger<typename Config::checksum>(fs, e.stock.paths, e.stock.store, next));
    return next;
}

/// Notes unknown extents in the ledger before anything is written behind them: after that write an opening may not see any more that an
/// extent is unknown. `known`: the ledger; new extents are added to it. The caller holds the store's lock.
template <class Config>
[[nodiscard]] result<void> remember_unknown(typename Config::file_system& fs, examination const& e,
                                            loss_ledger& known) {
    auto next = known;
    for (auto const& u : e.found.unknown)
        if (!next.knows(u.segment)) next.unknown.push_back(u);
    if (next.unknown.size() == known.unknown.size()) return {};
    KEEL_TRY(write_ledger<typename Config::checksum>(fs, e.stock.paths, e.stock.store, next));
    known = std::move(next);
    return {};
}

} // namespace keel::inline v0::recovery

#endif
