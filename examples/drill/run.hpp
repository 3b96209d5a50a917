// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_RUN_HPP
#define KEEL_EXAMPLES_DRILL_RUN_HPP

// The drill from beginning to end: load, kill, look, damage copies, open each, judge.

#include "judge.hpp"
#include "table.hpp"
#include "workplace.hpp"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace drill {

/// Starts the loader, listens to its acknowledgements, kills it once half of the records are safe.
[[nodiscard]] inline keel::result<void> load_and_kill(ledger& book, request const& wish, std::string const& folder,
                                                      progress_bar& bar) {
    KEEL_TRY_LET(loader, process::start({"load", "--input=" + wish.input, "--data-dir=" + folder,
                                         "--threads=" + std::to_string(wish.threads),
                                         "--records=" + std::to_string(book.data.records.size())}));
    auto const half = book.data.records.size() / 2;
    acknowledgement done;
    std::size_t have = 0;
    bool killed = false;
    while (auto const got = loader.read(reinterpret_cast<char*>(&done) + have, sizeof done - have)) {
        have = (have + got) % sizeof done;
        if (have != 0) continue;
        book.note(done);
        bar.show("loading " + wish.input + ", to be killed half-way", book.acknowledged.size(),
                 book.data.records.size());
        if (killed || book.acknowledged.size() < half) continue;
        // Right behind an acknowledgement little is under way; a moment later the next group is being written.
        std::this_thread::sleep_for(std::chrono::microseconds{std::random_device{}() % 5000});
        loader.kill();
        killed = true; // what it said before is still in the pipe
    }
    if (loader.wait() != -SIGKILL)
        return keel::failure(keel::errc::io_error, "the loader ended before it was killed; its own words stand above",
                             folder);
    return {};
}

/// Every acknowledged LSN lies in the store, under the key it was returned for.
inline void compare_places(row& out, ledger const& book, store_map const& map) {
    std::unordered_map<std::string_view, keel::lsn> lies;
    for (auto const& p : map.places) lies.emplace(p.key, p.at);
    for (auto const& [key, at] : book.acknowledged)
        if (auto const there = lies.find(key); there == lies.end() || there->second != at)
            return out.complain("the log does not hold " + std::string{key} + " at the LSN its writer was told");
}

/// One damage, one policy, one copy of the crashed store.
[[nodiscard]] inline keel::result<row> one_trial(ledger const& book, workplace const& where, damage const& what,
                                                 keel::repair_strategy policy) {
    auto name = where.keeps() ? what.name + "." + std::string{name_of(policy)} : "trial";
    std::ranges::replace(name, ' ', '-');
    auto const folder = where / name;
    std::filesystem::copy(where / "crashed", folder, std::filesystem::copy_options::recursive);
    if (!inflict(what, folder))
        return keel::failure(keel::errc::io_error, "cannot damage this file", folder + '/' + what.file);
    write_out(folder);
    bool const refuses = !expectation{&what, policy}.opens();
    auto const before = refuses ? bytes_of(folder) : std::vector<std::string>{};
    KEEL_TRY_LET(trial, run_trial(folder, policy, book.data.records.front().key));
    auto out = judge(book, &what, policy, std::move(trial));
    if (refuses && bytes_of(folder) != before) out.complain("refused, and changed files all the same");
    if (!where.keeps()) std::filesystem::remove_all(folder);
    return out;
}

struct drill_result {
    std::string crash{}; ///< a sentence on what the crash left
    std::vector<damage> damages{};
    std::vector<row> rows{};
};

[[nodiscard]] inline keel::result<drill_result> run(ledger& book, request const& wish, workplace const& where,
                                                    progress_bar& bar) {
    auto const store_folder = where / "store";
    KEEL_TRY(load_and_kill(book, wish, store_folder, bar));
    std::filesystem::copy(store_folder, where / "crashed", std::filesystem::copy_options::recursive);
    KEEL_TRY_LET(map, map_of(where / "crashed"));
    drill_result out;
    out.crash = "killed with " + grouped(book.acknowledged.size()) + " records acknowledged, the newest LSN " +
                std::to_string(book.last.value) + "; the log: " + std::to_string(map.segments.size()) + " segments, " +
                grouped(map.places.size()) + " records, known durable up to LSN " + std::to_string(map.horizon.value);
    auto const first_key = book.data.records.front().key;
    write_out(store_folder);
    // In place: the notes of the dead process still say which boot and which file they belong to.
    KEEL_TRY_LET(killed, run_trial(store_folder, keel::repair_strategy::partial_reconstruct, first_key));
    out.rows.push_back(judge(book, nullptr, keel::repair_strategy::partial_reconstruct, std::move(killed)));
    compare_places(out.rows.back(), book, map);
    KEEL_TRY_LET(torn, torn_tail(map, book.last));
    out.damages = {std::move(torn), flipped_bit(map, book.last), lost_sector(map, book.last)};
    for (auto const& what : out.damages)
        for (auto const policy : strategies) {
            bar.show(what.name + ", " + std::string{name_of(policy)}, out.rows.size(),
                     1 + out.damages.size() * strategies.size());
            KEEL_TRY_LET(next, one_trial(book, where, what, policy));
            out.rows.push_back(std::move(next));
        }
    return out;
}

} // namespace drill

#endif
