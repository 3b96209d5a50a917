// SPDX-License-Identifier: BSL-1.0
// A program of two files: this one only uses the store, includes declarations and compiles in a second.
#include <keel/store.hpp>

#include <iostream>

int main() {
    auto db = keel::engine<>::open("two_files.store");
    if (!db || !db->put("two", "files")) return 1;
    for (auto&& [key, value] : db->scan()) std::cout << key << " = " << value << '\n';
    return db->close() ? 0 : 1;
}
