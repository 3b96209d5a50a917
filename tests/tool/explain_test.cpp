// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/detail/glossary.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

// Every word that the tool prints can be explained by it.

namespace explain_test {

using namespace keel;
using namespace keel::tests;
using tool::detail::find_in_glossary;

namespace {

/// The names of all fields, at any depth.
void collect(json const& o, std::set<std::string>& names) {
    for (auto const& [name, value] : o.items()) {
        if (o.is_object()) names.insert(name);
        if (value.is_structured()) collect(value, names);
    }
}

} // namespace

TEST_CASE("explain: every kind of damage, every action and every error has an entry of its own") {
    auto const has_own = [](std::string_view name) {
        auto const* const e = find_in_glossary(name);
        REQUIRE_MESSAGE(e != nullptr, std::string{name});
        return e;
    };
    for (int i = 0; i <= static_cast<int>(damage::unknown_extent); ++i) has_own(name_of(static_cast<damage>(i)));
    for (int i = 0; i <= static_cast<int>(outcome::refused); ++i) has_own(name_of(static_cast<outcome>(i)));
    for (int i = 0; i <= static_cast<int>(errc::no_descriptor); ++i) has_own(name_of(static_cast<errc>(i)));
    for (int i = 0; i <= static_cast<int>(recovery_phase::replay); ++i)
        has_own(name_of(static_cast<recovery_phase>(i)));
    for (auto const* word : {"healthy", "damaged", "unknown", "unreadable", "skip_corrupted", "partial_reconstruct",
                             "rollback", "prepared", "active", "sealed", "rebuilt", "missing", "headers lost"})
        has_own(word);
    CHECK(has_own("torn_tail") == has_own("Torn Tail"));
    CHECK(has_own("accept-loss") == has_own("accepted"));
    CHECK(find_in_glossary("frobnication") == nullptr);
}

TEST_CASE("explain: every field of the tool's JSON is explained") {
    auto store = make_store("crc32c");
    std::set<std::string> names;
    auto const look = [&](std::vector<std::string> words) {
        words.emplace_back("--json");
        collect(wal_recovery(store.disk, std::move(words)).object(), names);
    };
    look({"validate", "--deep"});
    look({"undo"}); // an error
    look({"get", "key2"});
    damage_record(store, 233);
    look({"validate"});
    look({"repair", "--strategy", "skip"});
    look({"inspect"});
    look({"accept-loss"});
    CHECK(names.contains("quarantine"));
    CHECK(names.contains("error"));
    for (auto const& name : names) CHECK_MESSAGE(find_in_glossary(name) != nullptr, name);
}

TEST_CASE("explain: labels of the text are explained, too") {
    for (auto const* label :
         {"store",   "status",   "in use",      "segments",  "records",    "tables", "damage",   "lost",
          "unknown", "declared", "accepted",    "torn tail", "transient",  "deep",   "store id", "manifest",
          "horizon", "notes",    "findings",    "map",       "quarantine", "healed", "chain",    "place",
          "used",    "level",    "compression", "leftover",  "branch",     "edit"})
        CHECK_MESSAGE(find_in_glossary(label) != nullptr, label);
}

TEST_CASE("explain: no word has two entries, and each entry is a sentence") {
    std::set<std::string> seen;
    for (auto const& e : tool::detail::glossary) {
        CAPTURE(e.word);
        CHECK(e.meaning.size() > 20);
        CHECK((e.meaning.ends_with('.')));
        for (auto const& name : tool::detail::names_of(e)) CHECK_MESSAGE(seen.insert(name).second, name);
    }
}

TEST_CASE("explain: needs no store, lists all words, and suggests the nearest") {
    auto const tool_with = [](std::vector<std::string> const& words) {
        std::ostringstream out;
        std::ostringstream err;
        auto const code = wal_recovery_into(out, err, io::memory{}, words);
        return answer{code, out.str(), err.str()};
    };
    auto const a = tool_with({"explain", "horizon"});
    CHECK(a.code == 0);
    CHECK(a.out.starts_with("horizon\n  The last LSN that is known to have been acknowledged"));
    CHECK(tool_with({"explain", "declared", "lost"}).out.starts_with("declared\n"));
    CHECK(tool_with({"explain", "Segments"}).out.starts_with("segment\n"));
    CHECK(tool_with({"explain", "floor", "--json"}).object()["word"] == "floor");
    auto const all = tool_with({"explain"});
    CHECK(all.code == 0);
    for (auto const& e : tool::detail::glossary) CHECK(all.out.find(e.word) != std::string::npos);
    CHECK(tool_with({"explain", "--json"}).object()["words"].size() == tool::detail::glossary.size());
    auto const wrong = tool_with({"explain", "horzion"});
    CHECK(wrong.code == 2);
    CHECK(wrong.err.find("did you mean 'horizon'?") != std::string::npos);
    CHECK(tool_with({"explain", "xyzzyx"}).err.find("lists all words") != std::string::npos);
}

} // namespace explain_test
