// SPDX-License-Identifier: BSL-1.0
// A checksum of one's own as a policy. The four members are the whole contract (policy/checksum/concept.hpp); the laws behind them
// are in tests/conformance/checksum.hpp, to be run on one's own model too.

#include <keel/keel.hpp>

#include <filesystem>
#include <iostream>

/// FNV-1a with 64 bits. Its id goes into every header on disk: four letters that no other algorithm has.
struct fnv1a {
    static constexpr keel::checksum_id id = keel::checksum_id::of("fnv1");
    static constexpr std::string_view name = "fnv1a";

    void update(keel::byte_view bytes) noexcept {
        for (auto const byte : bytes) sum = (sum ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3U;
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return sum; }

    std::uint64_t sum = 0xCBF29CE484222325U;
};
static_assert(keel::checksum_policy<fnv1a>);

/// What the conformance suite asks, in small: splitting changes nothing, every single flipped bit changes the value.
bool keeps_the_laws() {
    std::string text = "the quick brown fox";
    auto const whole = keel::checksum::over<fnv1a>(keel::as_bytes(text));
    auto const parts = keel::checksum::over<fnv1a>(keel::as_bytes("the quick"), keel::byte_view{},
                                                   keel::as_bytes(" brown fox"));
    bool kept = whole == parts;
    for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
        text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
        kept = kept && keel::checksum::over<fnv1a>(keel::as_bytes(text)) != whole;
        text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    }
    return kept;
}

keel::result<void> write_and_read(std::string const& folder) {
    KEEL_TRY_LET(db, keel::engine<fnv1a>::open(folder));
    KEEL_TRY(db.put("answer", "42"));
    KEEL_TRY(db.close());
    KEEL_TRY_LET(again, keel::engine<fnv1a>::open(folder));
    KEEL_TRY_LET(answer, again.get("answer"));
    if (answer != "42") return keel::failure(keel::errc::not_found, "the value is not there");
    return again.close();
}

int main() {
    std::string const folder = "own_checksum.store";
    std::filesystem::remove_all(folder);
    bool good = keeps_the_laws();
    if (auto const done = write_and_read(folder); !done) {
        std::cerr << to_string(done.error()) << '\n';
        good = false;
    }
    // Another checksum gives the bytes another meaning: the store says so instead of calling all of it damaged.
    auto const other = keel::engine<keel::checksum::crc32c>::open(folder);
    good = good && !other && other.error().code == keel::errc::wrong_policy;
    if (!other) std::cout << to_string(other.error()) << '\n';
    std::filesystem::remove_all(folder);
    std::cout << (good ? "all as expected" : "NOT as expected") << '\n';
    return good ? 0 : 1;
}
