// SPDX-License-Identifier: BSL-1.0
// A flag byte and the notes file beside a small log. Notes are a hint: whatever stands in them, no record of the log is lost, none
// is invented, and the next notes can be written.
#include "support/damage_tools.hpp"
#include "support/fix_checks.hpp"

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;

small_store const& whole_store() {
    static small_store const store = make_store(ending::process_crash, 12, 3);
    return store;
}

void require(bool holds) {
    if (!holds) std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 1) return 0;
    auto const& store = whole_store();
    auto const in = std::as_bytes(std::span{data + 1, size - 1});
    std::vector<std::byte> notes(in.begin(), in.end());
    auto disk = clone(store.disk);
    if ((data[0] & 2) != 0) { // of this very store, so that they are listened to
        auto const own = *disk.contents("db/notes");
        for (std::size_t slot = 0; slot < 2; ++slot)
            for (std::size_t i = 0; i < 72; ++i) // magic, sequence, store, branch, boot, identity
                if (slot * 256 + i < notes.size() && (i < 8 || i >= 16)) notes[slot * 256 + i] = own[slot * 256 + i];
    }
    if ((data[0] & 1) != 0) fix_notes<checksum::crc32c>(notes);
    require(disk.replace("db/notes", notes).has_value());
    auto options = quiet_options(repair_strategy::skip_corrupted);
    options.max_recovery_attempts = 0;
    auto opened = small_engine::open(store_folder, options, disk);
    require(opened.has_value());
    require(content_of(*opened) == store.past.now());
    require(opened->recovery().records == store.past.last().value);
    if (opened->state() != engine_state::read_only) static_cast<void>(opened->put("k", "v"));
    opened->abandon();
    require(small_engine::open(store_folder, options, disk).has_value());
    return 0;
}
