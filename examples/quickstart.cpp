// SPDX-License-Identifier: BSL-1.0
// A store in one page: put, get, an atomic batch, a scan, a snapshot, and what the next open found.

#include <keel/keel.hpp>

#include <filesystem>
#include <iostream>

keel::result<void> quickstart(std::string const& folder) {
    KEEL_TRY_LET(db, keel::engine<>::open(folder));
    KEEL_TRY(db.put("apple", "red")); // returns once it survives power loss
    KEEL_TRY(db.put("banana", "yellow"));
    auto const before = db.snapshot();

    keel::write_batch batch; // both or neither, after any crash
    batch.put("cherry", "dark red");
    batch.erase("apple");
    KEEL_TRY(db.write(batch));

    KEEL_TRY_LET(now, db.get("apple"));
    KEEL_TRY_LET(then, db.get("apple", before));
    std::cout << "apple: " << now.value_or("gone") << "; in the snapshot: " << then.value_or("gone") << '\n';
    auto all = db.scan();
    for (auto&& [key, value] : all) std::cout << key << " = " << value << '\n';
    KEEL_TRY(all.status()); // a loop cannot tell by itself that it ended at damage
    KEEL_TRY(db.close());

    KEEL_TRY_LET(again, keel::engine<>::open(folder));
    auto const& found = again.recovery();
    std::cout << "reopened: " << found.records << " records up to LSN " << found.last_lsn.value << ", "
              << found.lost_records << " lost\n";
    return again.close();
}

int main() {
    std::filesystem::remove_all("quickstart.store");
    auto const done = quickstart("quickstart.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("quickstart.store");
    return done ? 0 : 1;
}
