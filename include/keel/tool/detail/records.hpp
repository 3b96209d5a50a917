// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_RECORDS_HPP
#define KEEL_TOOL_DETAIL_RECORDS_HPP

// `wal-recovery get`, `put`, `erase` and `scan`: a store's keys and values, in the form of dump. get and scan change nothing and also run
// beside a writer. They report lost records of the store, because the answer may then be an older value.

#include <keel/engine/batch.hpp>
#include <keel/engine/range.hpp>
#include <keel/error.hpp>
#include <keel/format/key_text.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/json.hpp>
#include <keel/tool/detail/open_store.hpp>
#include <keel/types.hpp>

#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0::tool::detail {

/// Reports losses that may have changed the answer. Returns the exit code.
[[nodiscard]] inline int tell_losses(console& to, recovery_report const& found) {
    if (!found.unknown_extents.empty()) {
        to.err << "wal-recovery: records are lost, and nobody can tell how many: the answer may be an older one; "
                  "'wal-recovery validate' says more\n";
        return exit_unknown;
    }
    if (found.lost_records == 0) return exit_done;
    to.err << "wal-recovery: " << counted(found.lost_records, "record") << " (LSN " << text_of(found.lost_lsn_ranges)
           << ") cannot be read: the answer may be an older one; 'wal-recovery validate' says more\n";
    return exit_damage;
}

[[nodiscard]] inline result<int> get(open_store& store, command_line const& line, console& to) {
    auto const value = store.get(line.key);
    if (!value && value.error().code == errc::corruption) {
        auto why = value.error();
        why.message += "; 'wal-recovery validate' shows the damage";
        to.err << "wal-recovery: " << printable(to_string(why)) << '\n';
        return exit_damage;
    }
    KEEL_TRY(value);
    auto const code = tell_losses(to, store.recovery());
    if (line.json) {
        json o;
        add_bytes(o, "key", as_bytes(line.key));
        o["has_value"] = value->has_value();
        if (*value) add_bytes(o, "value", as_bytes(**value));
        write(to.out, o);
    } else if (*value) {
        to.out << (line.raw ? **value : format::quoted(**value) + '\n');
    } else {
        to.err << "wal-recovery: the key " << printable(format::quoted_key(line.key)) << " has no value\n";
    }
    KEEL_TRY(is_written(to));
    return code == exit_done && !*value ? exit_no_value : code;
}

/// The range of the options and the prefix; if both are given, the keys in both.
[[nodiscard]] inline range range_of(command_line const& line) {
    auto which = prefix{.text = line.prefix, .reverse = line.reverse}.as_range();
    if (line.prefix.empty()) which.from.reset();
    if (line.first_key && (!which.from || *line.first_key > *which.from)) which.from = line.first_key;
    if (line.end_key && (!which.to || *line.end_key < *which.to)) which.to = line.end_key;
    return which;
}

[[nodiscard]] inline result<int> scan(open_store& store, command_line const& line, console& to) {
    auto left = line.limit.value_or(~std::uint64_t{0});
    auto const put = [&](std::string_view key, std::string_view value) {
        if (left == 0) return false;
        --left;
        std::string row;
        if (line.json) {
            json o;
            add_bytes(o, "key", as_bytes(key));
            if (!line.keys_only) add_bytes(o, "value", as_bytes(value));
            row = o.dump();
        } else {
            row = format::quoted(key);
            if (!line.keys_only) row += ' ' + format::quoted(value);
        }
        to.out << row << '\n';
        return to.out.good() && left != 0;
    };
    auto const gaps = store.scan(range_of(line), put);
    KEEL_TRY(is_written(to));
    KEEL_TRY(gaps);
    auto const code = tell_losses(to, store.recovery());
    for (auto const& gap : *gaps)
        to.err << "wal-recovery: not in this scan: " << printable(format::text_of_keys(gap.from, gap.to)) << ", which "
               << printable(gap.file) << " holds at " << gap.offset << ": " << printable(gap.why.message) << '\n';
    return code == exit_done && !gaps->empty() ? exit_damage : code;
}

/// All bytes of the file that --input names.
[[nodiscard]] inline result<std::string> bytes_of_input(std::string const& path) {
    std::ifstream file;
    if (path != "-") {
        file.open(path, std::ios::binary);
        if (!file) return failure(errc::not_found, "the input cannot be opened; check --input", path);
    }
    auto& in = path == "-" ? static_cast<std::istream&>(std::cin) : file;
    std::string out{std::istreambuf_iterator<char>{in}, {}};
    if (in.bad()) return failure(errc::io_error, "the input could not be read to its end", path);
    return out;
}

/// Carries out put and erase.
[[nodiscard]] inline result<int> change(open_store& store, command_line const& line, console& to) {
    write_batch batch;
    if (line.what == command::erase) {
        batch.erase(line.key);
    } else if (line.value_from_input) {
        KEEL_TRY_LET(value, bytes_of_input(line.input));
        batch.put(line.key, value);
    } else {
        batch.put(line.key, line.value);
    }
    KEEL_TRY_LET(at, store.write(batch));
    KEEL_TRY(store.close());
    if (line.json) write(to.out, json{{"lsn", at.value}});
    else to.out << (line.what == command::erase ? "Erased" : "Written") << ", LSN " << at.value << ".\n";
    KEEL_TRY(is_written(to));
    return exit_done;
}

[[nodiscard]] inline bool is_about_records(command what) noexcept {
    return what == command::get || what == command::scan || what == command::put || what == command::erase;
}

[[nodiscard]] inline result<int> use_records(open_store& store, command_line const& line, console& to) {
    switch (line.what) {
    case command::get: return get(store, line, to);
    case command::scan: return scan(store, line, to);
    default: return change(store, line, to);
    }
}

} // namespace keel::inline v0::tool::detail

#endif
