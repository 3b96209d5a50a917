// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_LOAD_HPP
#define KEEL_TOOL_DETAIL_LOAD_HPP

// `wal-recovery load`: the opposite of dump and scan. It reads their lines, text or JSON, and writes a new store, or a new log if the
// records are messages. Dump and load together are for a store that no repair can help. Dump prints every record that verifies and
// reports the others. Load makes a store of the printed records.
//
// Batches of the log stay whole. A dump also has the older versions in tables. Of consecutive versions of one key, newest first, only the
// first is written. Every record gets a new LSN.

#include <keel/detail/hex.hpp>
#include <keel/engine.hpp>
#include <keel/error.hpp>
#include <keel/format/text.hpp>
#include <keel/log.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/engine_of_tool.hpp>
#include <keel/tool/detail/json.hpp>

#include <cerrno>
#include <fstream>
#include <iostream>
#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// The bytes of a JSON field, or of the field with `_hex` after its name.
[[nodiscard]] inline result<std::string> bytes_of_field(json const& o, std::string const& name) {
    if (auto const text = o.find(name); text != o.end() && text->is_string()) return text->get<std::string>();
    auto const hex = o.find(name + "_hex");
    if (hex == o.end()) return std::string{};
    auto const digits = hex->is_string() ? hex->get<std::string>() : std::string{"?"};
    std::string out;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        auto const high = keel::detail::hex_value(digits[i]);
        auto const low = keel::detail::hex_value(digits[i + 1]);
        if (high > 15 || low > 15) break;
        out += static_cast<char>(high * 16 + low);
    }
    if (2 * out.size() == digits.size()) return out;
    return failure(errc::invalid_argument, name + "_hex is not an even number of hexadecimal digits");
}
[[nodiscard]] inline result<format::record> record_of_json(std::string_view line, std::uint64_t number) {
    auto const o = json::parse(line, nullptr, false);
    if (!o.is_object()) return failure(errc::invalid_argument, "expected a JSON object");
    format::record r;
    auto const has = [&](char const* name) { return o.contains(name) || o.contains(std::string{name} + "_hex"); };
    bool const of_scan = !o.contains("type") && !o.contains("lsn") && has("key") && has("value");
    auto const type = of_scan ? json("put") : o.value("type", json{});
    if (type == "put") r.type = format::frame_type::put;
    else if (type == "erase") r.type = format::frame_type::erase;
    else if (type == "message") r.type = format::frame_type::message;
    else return failure(errc::invalid_argument, "expected a type: put, erase or message");
    auto const at = of_scan ? json(number) : o.value("lsn", json{});
    if (!at.is_number_unsigned()) return failure(errc::invalid_argument, "expected an lsn");
    r.at = {at.get<std::uint64_t>()};
    auto const is_set = [&](char const* name) { return o.value(name, json(true)) != json(false); };
    r.flags = static_cast<std::uint8_t>((is_set("begins_batch") ? format::begins_batch : 0) |
                                        (is_set("ends_batch") ? format::ends_batch : 0));
    KEEL_TRY_LET(key, bytes_of_field(o, "key"));
    KEEL_TRY_LET(value, bytes_of_field(o, "value"));
    r.key = std::move(key);
    r.value = std::move(value);
    return r;
}

/// Parses a line of dump, or a line of scan, which has only key and value. `number`: the number of the line, taken as the LSN of a line
/// of scan.
[[nodiscard]] inline result<format::record> record_of_line(std::string const& line, std::uint64_t number) {
    if (line.front() == '{') return record_of_json(line, number);
    if (line.front() != '"') return format::parse(line);
    auto r = format::parse(std::to_string(number) + " put whole " + line);
    if (!r) return failure(errc::invalid_argument, "expected a key and a value in double quotes, as scan prints them");
    return r;
}

/// Writes the records to a store or a log; the first record decides which.
template <class Config>
class loader {
    using config = synced_at_the_end<Config>;

public:
    loader(typename Config::file_system fs, std::string directory)
        : fs_{std::move(fs)}, directory_{std::move(directory)} {}

    result<void> add(format::record r) {
        using format::frame_type;
        if (r.type == frame_type::erase && r.key.empty()) return {}; // the log's record of an ingestion
        bool const of_log = r.type == frame_type::message;
        if (!of_log && r.type != frame_type::put && r.type != frame_type::erase)
            return failure(errc::invalid_argument, "expected a put, an erase or a message");
        KEEL_TRY(is_open(of_log));
        bool const begins = (r.flags & format::begins_batch) != 0;
        bool const ends = (r.flags & format::ends_batch) != 0;
        is_inside_ = !ends && (begins || is_inside_);
        if (of_log) texts_.push_back(std::move(r.value));
        else if (!is_older(r)) take(r);
        return ends ? write() : result<void>{};
    }
    /// Closes the store. When it returns, all records survive power loss.
    result<void> finish() {
        if (is_inside_) return failure(errc::invalid_argument, "the input ends inside a batch");
        KEEL_TRY(is_open(false));
        if (log_) return log_->close();
        return store_->close();
    }
    [[nodiscard]] std::uint64_t loaded() const noexcept { return loaded_; }
    [[nodiscard]] std::uint64_t older() const noexcept { return older_; }
    [[nodiscard]] bool is_log() const noexcept { return log_.has_value(); }

private:
    result<void> is_open(bool as_log) {
        if (!store_ && !log_) {
            open_options options;
            if (as_log) {
                KEEL_TRY_LET(log, basic_log<config>::open(directory_, options, fs_));
                log_.emplace(std::move(log));
            } else {
                KEEL_TRY_LET(store, engine_of_tool<Config>::open(directory_, options, fs_));
                store_.emplace(std::move(store));
            }
        }
        return {};
    }
    /// Whether the record is an older version of the key that was added last.
    [[nodiscard]] bool is_older(format::record const& r) {
        bool const older = any_ && r.key == last_key_ && r.at <= last_at_;
        older_ += older;
        if (older) return true;
        any_ = true;
        last_key_ = r.key;
        last_at_ = r.at;
        return false;
    }
    void take(format::record const& r) {
        if (r.type == format::frame_type::erase) batch_.erase(r.key);
        else batch_.put(r.key, r.value);
    }
    result<void> write() {
        if (!texts_.empty()) {
            if (!log_) return failure(errc::invalid_argument, "a message among the records of a store");
            KEEL_TRY(log_->append_batch(texts_));
            loaded_ += std::exchange(texts_, {}).size();
        }
        if (!batch_.empty()) {
            if (!store_) return failure(errc::invalid_argument, "a key among the records of a log");
            KEEL_TRY(store_->write(batch_));
            loaded_ += batch_.size();
            batch_.clear();
        }
        return {};
    }

    typename Config::file_system fs_;
    std::string directory_;
    std::optional<engine_of_tool<Config>> store_{};
    std::optional<basic_log<config>> log_{};
    write_batch batch_{};
    std::vector<std::string> texts_{};
    bool is_inside_ = false; ///< a batch has begun and not ended
    bool any_ = false;
    std::string last_key_{};
    lsn last_at_{};
    std::uint64_t loaded_ = 0;
    std::uint64_t older_ = 0;
};

/// Loads all lines of the input. Errors name the line.
template <class Config>
[[nodiscard]] result<void> load_lines(std::istream& in, loader<Config>& to, progress_line& progress) {
    constexpr std::uint64_t shown_every = 16 * KiB;
    std::string line;
    for (std::uint64_t number = 1; std::getline(in, line); ++number) {
        if (line.empty()) continue;
        if (number % shown_every == 0) progress.show_loaded(number);
        auto done = record_of_line(line, number);
        auto added = done ? to.add(std::move(*done)) : result<void>{failure(std::move(done).error())};
        if (added) continue;
        auto why = std::move(added).error();
        why.message = "line " + std::to_string(number) + ": " + why.message +
                      "; the new store has what comes before it: correct the input, remove the folder, and load again";
        return failure(std::move(why));
    }
    if (in.bad()) return failure(errc::io_error, "the input could not be read to its end");
    return to.finish();
}

template <class Config>
[[nodiscard]] result<int> load(typename Config::file_system& fs, command_line const& line, console& to) {
    wal::layout const paths{line.directory};
    for (auto const& there : {paths.manifest(0), paths.manifest(1), paths.log()})
        if (fs.status(there))
            return failure(errc::exists, "there is a store already; load makes a new one: give another folder",
                           line.directory);
    std::ifstream file;
    if (line.input != "-") {
        file.open(line.input, std::ios::binary);
        if (!file) return failure(errc::not_found, "the input cannot be opened; check --input", line.input);
    }
    loader<Config> all{fs, line.directory};
    {
        progress_line progress{to};
        KEEL_TRY(load_lines<Config>(line.input == "-" ? std::cin : file, all, progress));
    }
    if (line.json) {
        json o;
        o["loaded"] = all.loaded();
        o["older_versions_left_out"] = all.older();
        o["kind"] = all.is_log() ? "log" : "store";
        write(to.out, o);
    } else {
        to.out << "Loaded " << counted(all.loaded(), "record") << " into a new " << (all.is_log() ? "log" : "store");
        if (all.older() != 0) to.out << "; " << counted(all.older(), "older version") << " left out";
        to.out << ".\n";
    }
    return exit_done;
}

} // namespace keel::inline v0::tool::detail

#endif
