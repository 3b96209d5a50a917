// SPDX-License-Identifier: BSL-1.0
// Several tables in one store: each has a prefix. A batch over two tables is atomic, and a table is dropped by erasing its prefix.

#include <keel/store.hpp>

#include <filesystem>
#include <iostream>
#include <string>

using store = keel::engine<>;

/// A table is its name and a zero byte in front of each key: no name is the beginning of another one.
struct table {
    std::string begins;
    explicit table(std::string name) : begins{std::move(name) + '\0'} {}
    [[nodiscard]] std::string key(std::string_view of) const { return begins + std::string{of}; }
    [[nodiscard]] keel::prefix all() const { return {.text = begins}; }
};

keel::result<void> use_tables(std::string const& folder) {
    table const orders{"orders"};
    table const old_orders{"orders.old"};
    KEEL_TRY_LET(db, store::open(folder));

    keel::write_batch move; // out of one table, into the other: both or neither
    move.put(old_orders.key("17"), "3 anchors");
    move.erase(orders.key("17"));
    KEEL_TRY(db.write(move));
    KEEL_TRY(db.put(orders.key("18"), "1 rope"));

    auto rows = db.scan(orders.all());
    for (auto&& [key, value] : rows) std::cout << key.substr(orders.begins.size()) << ": " << value << '\n';
    KEEL_TRY(rows.status());
    KEEL_TRY_LET(dropped, db.erase(old_orders.all()));
    KEEL_TRY_LET(kept, db.get(orders.key("18")));
    if (dropped != 1 || kept != "1 rope") return keel::failure(keel::errc::corruption, "one table touched another");
    return db.close();
}

int main() {
    std::filesystem::remove_all("tables_by_prefix.store");
    auto const done = use_tables("tables_by_prefix.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("tables_by_prefix.store");
    return done ? 0 : 1;
}
