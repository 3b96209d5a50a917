// SPDX-License-Identifier: BSL-1.0
#include <keel/recovery/extent.hpp>

#include <doctest/doctest.h>

#include <string>

// One namespace a file: all of a folder's tests are one translation unit.
namespace extent_test {

using namespace keel::recovery;

namespace {

extent_facts facts_of(unsigned bits, use_seen use) {
    auto const bit = [bits](unsigned n) { return (bits >> n & 1) != 0; };
    return {.sealed = bit(0),
            .named = bit(1),
            .later_in_use = bit(2),
            .notes_tell = bit(3),
            .present = bit(4),
            .use = use,
            .whole = bit(5),
            .readable = bit(6)};
}

/// Calls visit(facts) for every combination.
template <class Visit>
void each(Visit const& visit) {
    for (auto const use : {use_seen::unreadable, use_seen::prepared, use_seen::active})
        for (unsigned bits = 0; bits < 128; ++bits) visit(facts_of(bits, use));
}

} // namespace

TEST_CASE("extent: each state has one proof, and it is the one of its row in the table") {
    unsigned states = 0;
    each([&](extent_facts const& f) {
        ++states;
        auto const proof = prove_extent(f);
        bool const last = !f.sealed && !f.named && !f.later_in_use;
        // Row by row, each stated alone: exactly one holds.
        int rows = 0;
        auto const row = [&](bool holds, extent_proof expected) {
            if (!holds) return;
            ++rows;
            CHECK(proof == expected);
        };
        row(f.sealed, extent_proof::seal);
        row(!f.sealed && f.named, extent_proof::link);
        row(!f.sealed && !f.named && f.later_in_use && f.present, extent_proof::later_segment);
        row(!f.sealed && !f.named && f.later_in_use && !f.present, extent_proof::none);
        row(last && f.notes_tell, extent_proof::notes);
        bool const silent = last && !f.notes_tell;
        row(silent && !f.present, extent_proof::none);
        row(silent && f.present && f.use == use_seen::unreadable, extent_proof::none);
        row(silent && f.present && f.use == use_seen::prepared, extent_proof::header);
        bool const active = silent && f.present && f.use == use_seen::active;
        row(active && f.whole && f.readable, extent_proof::file);
        row(active && !(f.whole && f.readable), extent_proof::none);
        CHECK(rows == 1);
    });
    CHECK(states == 384);
}

TEST_CASE("extent: what a mere crash leaves is never unknown") {
    // Every file stands under its name, as long as it was made, and can be read; each has a header that verifies.
    each([&](extent_facts const& f) {
        if (!f.present || !f.whole || !f.readable || f.use == use_seen::unreadable) return;
        CHECK(prove_extent(f) != extent_proof::none);
    });
}

TEST_CASE("extent: the end of the log is proven by nothing but the file itself, or notes of this boot") {
    each([&](extent_facts const& f) {
        if (f.sealed || f.named || f.later_in_use || f.notes_tell) return;
        bool const proven = prove_extent(f) != extent_proof::none;
        bool const file_tells = f.present &&
                                (f.use == use_seen::prepared || (f.use == use_seen::active && f.whole && f.readable));
        CHECK(proven == file_tells);
    });
}

TEST_CASE("extent: where there is no proof a sentence says what is missing") {
    each([&](extent_facts const& f) {
        if (prove_extent(f) != extent_proof::none) return;
        std::string const text{why_unknown(f)};
        CHECK(text.find(f.present ? "end" : "gone") + text.find("header") != 2 * std::string::npos);
        CHECK(text.size() > 20);
    });
}

} // namespace extent_test
