// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_TOOL_HARNESS_HPP
#define KEEL_TESTS_TOOL_HARNESS_HPP

// The tool on simulated disks: one instance of it, compiled once, and stores of every shipped checksum to run it on.

#include <keel/engine.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/compression/any_of.hpp>
#include <keel/tool/run.hpp>

#include <support/run_lengths.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace keel::tests {

using nlohmann::json;

/// What the tool of these tests unpacks. The tests' own engines have it, too, although they pack nothing: recovery, reading and merging
/// are compiled once for them and for the tool.
using unpacks = compression::any_of<compression::none, test::run_lengths>;

struct answer {
    int code = 0;
    std::string out;
    std::string err;
    [[nodiscard]] json object() const { return json::parse(out); }
};

/// `wal-recovery` with these words and `--data-dir db`.
answer wal_recovery(io::memory disk, std::vector<std::string> words, keel::tool::terminal look = {});
/// `wal-recovery load` of these lines.
answer load(io::memory const& disk, std::string_view text, bool as_json = false);
/// The tool with these words and no others; the exit code.
int wal_recovery_into(std::ostream& out, std::ostream& err, io::memory disk, std::vector<std::string> const& words,
                      keel::tool::terminal look = {});

struct put_record {
    std::string key;
    std::string value;
    bool operator==(put_record const&) const = default;
};

/// A store in the folder `db`, and what was put into it: record i has LSN i + 1.
struct made_store {
    io::memory disk{};
    std::vector<put_record> records{};
};

/// Puts so many records (some of them batches) and closes in order.
made_store make_store(std::string const& checksum, int records = 400);
/// The same, with work on the disk left to the test while the engine is open: `then` runs, and the engine dies without a close.
made_store make_store_and_die(std::string const& checksum, int records, std::function<void(io::memory&)> then = {});
/// Opens the store, puts one more record, closes.
void put_one_more(made_store& store);

inline std::vector<std::string> const shipped_checksums{"crc32c", "crc32", "xxh3_64", "sha3_64"};

/// Where the frame of this record stands: the file in db/ and the offset of its value in it.
struct value_place {
    std::string file;
    std::uint64_t frame = 0;
    std::uint64_t value = 0;
};
value_place find_value(made_store const& store, std::size_t record);
/// Turns one bit of that record's value over.
value_place damage_record(made_store& store, std::size_t record);

/// The lines of a text.
std::vector<std::string> lines(std::string const& text);

} // namespace keel::tests

#endif
