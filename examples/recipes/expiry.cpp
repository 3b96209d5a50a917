// SPDX-License-Identifier: BSL-1.0
// Values that expire. The time stands in the value, so a read needs nothing else; an index in order of time finds what is to be removed.

#include <keel/store.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

using store = keel::engine<>;

/// As many digits for each time, so that the order of the texts is the order of the times.
std::string digits(std::uint64_t seconds) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "%020llu", static_cast<unsigned long long>(seconds));
    return text.data();
}
constexpr std::size_t digits_size = 20;

keel::result<keel::lsn> put_until(store& db, std::string const& key, std::string const& value, std::uint64_t ends) {
    keel::write_batch batch; // an older entry of the index may stay: remove_expired() looks at the value
    batch.put("data/" + key, digits(ends) + value);
    batch.put("ends/" + digits(ends) + key, "");
    return db.write(batch);
}

keel::result<std::optional<std::string>> get_at(store const& db, std::string const& key, std::uint64_t now) {
    KEEL_TRY_LET(found, db.get("data/" + key));
    if (!found || std::string_view{*found}.substr(0, digits_size) <= digits(now)) return std::nullopt;
    return found->substr(digits_size);
}

keel::result<void> remove_expired(store& db, std::uint64_t now) {
    auto due = db.keys({"ends/", "ends/" + digits(now + 1)});
    for (auto entry : due) {
        auto const index_key = std::string{entry};
        auto const key = "data/" + index_key.substr(5 + digits_size);
        auto const removed = db.transact([&](store::transaction& tx) -> keel::result<void> {
            KEEL_TRY_LET(found, tx.get(key));
            if (found && std::string_view{*found}.substr(0, digits_size) <= digits(now)) KEEL_TRY(tx.erase(key));
            return tx.erase(index_key);
        });
        KEEL_TRY(removed);
    }
    return due.status();
}

keel::result<void> expire(std::string const& folder) {
    KEEL_TRY_LET(db, store::open(folder));
    KEEL_TRY(put_until(db, "session", "ada", 100));
    KEEL_TRY(put_until(db, "token", "t1", 100));
    KEEL_TRY(put_until(db, "token", "t2", 200)); // renewed
    KEEL_TRY_LET(before, get_at(db, "session", 99));
    KEEL_TRY_LET(after, get_at(db, "session", 100));
    KEEL_TRY(remove_expired(db, 150));
    KEEL_TRY_LET(gone, db.get("data/session"));
    KEEL_TRY_LET(renewed, get_at(db, "token", 150));
    std::cout << "session: " << before.value_or("gone") << ", then " << after.value_or("gone")
              << "; token: " << renewed.value_or("gone") << '\n';
    if (before != "ada" || after || gone || renewed != "t2")
        return keel::failure(keel::errc::corruption, "a value lived too long or not long enough");
    return db.close();
}

int main() {
    std::filesystem::remove_all("expiry.store");
    auto const done = expire("expiry.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("expiry.store");
    return done ? 0 : 1;
}
