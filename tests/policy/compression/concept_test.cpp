// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/compression/concept.hpp>

#include <keel/policy/compression/any_of.hpp>
#include <keel/policy/compression/none.hpp>

#include <conformance/compression.hpp>
#include <support/run_lengths.hpp>

using keel::test::run_lengths;

namespace {

/// As run_lengths, under another id.
struct other_runs : run_lengths {
    static constexpr std::uint8_t id = 9;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept { return of == 0 || of == id; }
    [[nodiscard]] static bool decompress(std::uint8_t of, keel::byte_view in, keel::byte_span out) noexcept {
        return of == id && run_lengths::decompress(run_lengths::id, in, out);
    }
};

} // namespace

TEST_CASE("none: keeps the laws, packs nothing and reads nothing packed") {
    using keel::compression::none;
    keel::conformance::compression_laws<none>();
    std::vector<std::byte> packed;
    CHECK(!none::compress(std::vector<std::byte>(1000), packed));
    static_assert(!keel::compression::unpacks_any<none>());
    static_assert(!none::reads(1));
}

TEST_CASE("run_lengths: a small model keeps the laws") { keel::conformance::compression_laws<run_lengths>(); }

TEST_CASE("any_of: keeps the laws") {
    keel::conformance::compression_laws<keel::compression::any_of<run_lengths, keel::compression::none, other_runs>>();
}

TEST_CASE("any_of: writes as the first and reads all") {
    using keel::compression::none;
    using both = keel::compression::any_of<none, run_lengths, other_runs>;
    static_assert(both::id == 0);
    static_assert(both::reads(0) && both::reads(8) && both::reads(9) && !both::reads(1));
    static_assert(keel::compression::unpacks_any<both>());
    CHECK(both::name == "none");
    CHECK(keel::compression::names_read_by<both>() == "none, compression 8, compression 9");
    std::vector<std::byte> const bytes(100, std::byte{3});
    std::vector<std::byte> packed;
    CHECK(!both::compress(bytes, packed));
    REQUIRE(run_lengths::compress(bytes, packed));
    CHECK(keel::conformance::unpacked<both>(8, packed, 100) == bytes);
    CHECK(keel::conformance::unpacked<both>(9, packed, 100) == bytes);
    CHECK(!keel::conformance::unpacked<both>(1, packed, 100));
    using turned = keel::compression::any_of<other_runs, run_lengths>;
    CHECK(turned::id == 9);
    REQUIRE(turned::compress(bytes, packed));
    CHECK(keel::conformance::unpacked<other_runs>(9, packed, 100) == bytes);
}

TEST_CASE("compression: ids have names, and a saving of an eighth is what pays") {
    CHECK(keel::compression::name_of(0) == "none");
    CHECK(keel::compression::name_of(1) == "zstd");
    CHECK(keel::compression::name_of(2) == "lz4");
    CHECK(keel::compression::names_read_by<keel::compression::none>() == "none");
    static_assert(keel::compression::worth_bytes_max(800) == 700);
    static_assert(keel::compression::worth_bytes_max(1) == 0);
}

namespace {

struct reads_at_run_time : run_lengths {
    static bool reads(std::uint8_t of) noexcept { return of == id; }
};
struct no_reader {
    static constexpr std::string_view name = "none";
    static constexpr std::uint8_t id = 8;
    static constexpr bool reads(std::uint8_t) noexcept { return true; }
    static bool compress(keel::byte_view, std::vector<std::byte>&) { return false; }
};

} // namespace

// What the compiler refuses on its own.
static_assert(!keel::compression_policy<reads_at_run_time>);
static_assert(!keel::compression_policy<no_reader>);
