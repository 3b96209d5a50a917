// SPDX-License-Identifier: BSL-1.0
// Results in pages: the last key of a page is where the next page begins. Nothing is kept between two requests.

#include <keel/store.hpp>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

using store = keel::engine<>;

keel::result<std::vector<std::string>> page(store const& db, std::string const& after, std::size_t size) {
    auto from = after + '\0'; // the first key behind `after`
    std::vector<std::string> keys;
    auto rest = db.keys(keel::range{.from = after.empty() ? "" : from});
    for (auto key : rest) {
        keys.emplace_back(key);
        if (keys.size() == size) return keys;
    }
    KEEL_TRY(rest.status()); // the loop reached the end, or damage
    return keys;
}

keel::result<void> turn_pages(std::string const& folder) {
    KEEL_TRY_LET(db, store::open(folder));
    keel::write_batch batch;
    for (int i = 10; i < 35; ++i) batch.put("item" + std::to_string(i), "");
    KEEL_TRY(db.write(batch));
    std::string last;
    std::size_t pages = 0;
    std::size_t keys = 0;
    for (;; ++pages) {
        KEEL_TRY_LET(now, page(db, last, 10));
        if (now.empty()) break;
        std::cout << "page " << pages + 1 << ": " << now.front() << " to " << now.back() << '\n';
        keys += now.size();
        last = now.back();
    }
    if (pages != 3 || keys != 25) return keel::failure(keel::errc::corruption, "a key was missed or came twice");
    return db.close();
}

int main() {
    std::filesystem::remove_all("pages.store");
    auto const done = turn_pages("pages.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("pages.store");
    return done ? 0 : 1;
}
