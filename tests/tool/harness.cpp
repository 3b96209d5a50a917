// SPDX-License-Identifier: BSL-1.0
#include "harness.hpp"

#include <keel/engine/batch.hpp>
#include <keel/policy/durability/every_write.hpp>

#include <io/posix_folder.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace keel::tests {

namespace {

std::uint64_t now_ns() { return 1'700'000'000'000'000'000; }
std::uint64_t next_random() {
    static thread_local std::uint64_t state = 0x9E3779B97F4A7C15ULL;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}
open_options quiet() { return {.background_thread = false, .clock_ns = now_ns, .entropy = next_random}; }

template <class T>
T need(result<T> r) {
    if (!r) throw std::runtime_error{to_string(r.error())};
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

template <class C>
void fill(made_store& store, int records, bool orderly, std::function<void(io::memory&)> const& then) {
    using engine_type = engine<C, io::memory, segment_size<16 * KiB>, durability::every_write, unpacks>;
    auto db = need(engine_type::open("db", quiet(), store.disk));
    for (int i = 0; i < records; ++i) {
        put_record const r{"key" + std::to_string(i),
                           "value " + std::to_string(i) + " " + std::string(static_cast<std::size_t>(i % 200), 'v')};
        store.records.push_back(r);
        if (i % 10 == 0 && i + 1 < records) {
            put_record const second{"batch\n" + std::to_string(++i),
                                    std::string("\xff\x00\"\\", 4) + std::to_string(i)};
            store.records.push_back(second);
            write_batch b;
            b.put(r.key, r.value);
            b.put(second.key, second.value);
            need(db.write(b));
        } else {
            need(db.put(r.key, r.value));
        }
    }
    if (then) then(store.disk);
    if (orderly) need(db.close());
    else db.abandon();
}

made_store make(std::string const& checksum, int records, bool orderly, std::function<void(io::memory&)> const& then) {
    made_store store;
    if (checksum == "crc32c") fill<checksum::crc32c>(store, records, orderly, then);
    else if (checksum == "crc32") fill<checksum::crc32>(store, records, orderly, then);
    else if (checksum == "xxh3_64") fill<checksum::xxh3_64>(store, records, orderly, then);
    else if (checksum == "sha3_64") fill<checksum::sha3_64>(store, records, orderly, then);
    else throw std::runtime_error{"no such checksum"};
    return store;
}

} // namespace

int wal_recovery_into(std::ostream& out, std::ostream& err, io::memory disk, std::vector<std::string> const& words,
                      keel::tool::terminal look) {
    return keel::tool::run<engine<io::memory, unpacks>>(words, out, err, std::move(disk), look);
}

answer wal_recovery(io::memory disk, std::vector<std::string> words, keel::tool::terminal look) {
    words.insert(words.end(), {"--data-dir", "db"});
    std::ostringstream out;
    std::ostringstream err;
    auto const code = wal_recovery_into(out, err, std::move(disk), words, look);
    return {code, out.str(), err.str()};
}
answer load(io::memory const& disk, std::string_view text, bool as_json) {
    posix_folder folder;
    auto const path = folder / "records";
    std::ofstream{path, std::ios::binary} << text;
    std::vector<std::string> words{"load", "--input", path};
    if (as_json) words.emplace_back("--json");
    return wal_recovery(disk, std::move(words));
}

made_store make_store(std::string const& checksum, int records) { return make(checksum, records, true, {}); }
made_store make_store_and_die(std::string const& checksum, int records, std::function<void(io::memory&)> then) {
    return make(checksum, records, false, then);
}

void put_one_more(made_store& store) {
    auto db = need(engine<io::memory, unpacks>::open("db", quiet(), store.disk));
    need(db.put("one", "more"));
    need(db.close());
}

value_place find_value(made_store const& store, std::size_t record) {
    auto const& value = store.records[record].value;
    auto const& key = store.records[record].key;
    for (auto const& file : store.disk.files()) {
        if (!file.starts_with("db/log/")) continue;
        auto const bytes = need(store.disk.contents(file));
        auto const text = as_text(bytes);
        auto const at = text.find(key + value);
        if (at == std::string_view::npos) continue;
        return {file.substr(3), at - format::frame_header_bytes, at + key.size()};
    }
    throw std::runtime_error{"the record is nowhere"};
}

value_place damage_record(made_store& store, std::size_t record) {
    auto const at = find_value(store, record);
    need(store.disk.corrupt("db/" + at.file, at.value, std::byte{4}));
    return at;
}

std::vector<std::string> lines(std::string const& text) {
    std::vector<std::string> out;
    std::istringstream in{text};
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

} // namespace keel::tests
