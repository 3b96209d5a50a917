// SPDX-License-Identifier: BSL-1.0
// A second way to find a record. The record and its index entry are written in one transaction, so after any crash they agree.

#include <keel/store.hpp>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

using store = keel::engine<>;

keel::result<keel::lsn> set_city(store& db, std::string const& user, std::string const& city) {
    return db.transact([&](store::transaction& tx) -> keel::result<void> {
        KEEL_TRY_LET(old, tx.get("user/" + user));
        if (old) KEEL_TRY(tx.erase("city/" + *old + '\0' + user)); // a zero byte ends the city's name
        KEEL_TRY(tx.put("user/" + user, city));
        return tx.put("city/" + city + '\0' + user, "");
    });
}

keel::result<std::vector<std::string>> users_in(store const& db, std::string const& city) {
    std::string const begins = "city/" + city + '\0';
    std::vector<std::string> users;
    auto all = db.keys(keel::prefix{begins});
    for (auto key : all) users.emplace_back(key.substr(begins.size()));
    KEEL_TRY(all.status());
    return users;
}

keel::result<void> look_up(std::string const& folder) {
    KEEL_TRY_LET(db, store::open(folder));
    KEEL_TRY(set_city(db, "ada", "London"));
    KEEL_TRY(set_city(db, "emmy", "Erlangen"));
    KEEL_TRY(set_city(db, "mary", "London"));
    KEEL_TRY(set_city(db, "emmy", "London")); // she moves
    KEEL_TRY_LET(in_london, users_in(db, "London"));
    KEEL_TRY_LET(in_erlangen, users_in(db, "Erlangen"));
    for (auto const& user : in_london) std::cout << user << " lives in London\n";
    if (in_london != std::vector<std::string>{"ada", "emmy", "mary"} || !in_erlangen.empty())
        return keel::failure(keel::errc::corruption, "the index and the records differ");
    return db.close();
}

int main() {
    std::filesystem::remove_all("secondary_index.store");
    auto const done = look_up("secondary_index.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("secondary_index.store");
    return done ? 0 : 1;
}
