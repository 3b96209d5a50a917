// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_MATERIAL_HPP
#define KEEL_BENCH_MATERIAL_HPP

// What every benchmark works on: keys, bytes that do not compress, and a folder that goes when its object does.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <stdlib.h>

namespace bench {

/// Numbers that look random and come from a seed (splitmix64): the same in every run and for every peer.
class noise {
public:
    explicit noise(std::uint64_t seed) noexcept : state_{seed} {}
    std::uint64_t operator()() noexcept {
        auto z = state_ += 0x9E3779B97F4A7C15ULL;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31);
    }
    /// Text of that many bytes which does not compress.
    std::string text(std::size_t bytes) {
        std::string out(bytes, '\0');
        for (auto& c : out) c = static_cast<char>((*this)());
        return out;
    }

private:
    std::uint64_t state_;
};

/// Numbers below `count` of which few come often: 0 the most, as YCSB draws them (Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases", 1994). Of a million the first one comes once in fifteen times.
class zipfian {
public:
    explicit zipfian(std::uint64_t count) : count_{static_cast<double>(count)} {
        for (std::uint64_t i = 1; i <= count; ++i) sum_ += std::pow(1 / static_cast<double>(i), theta);
        auto const two = 1 + std::pow(0.5, theta);
        eta_ = (1 - std::pow(2 / count_, 1 - theta)) / (1 - two / sum_);
    }
    [[nodiscard]] std::uint64_t operator()(noise& random) const {
        auto const u = static_cast<double>(random() >> 11) / static_cast<double>(std::uint64_t{1} << 53);
        if (u * sum_ < 1) return 0;
        if (u * sum_ < 1 + std::pow(0.5, theta)) return 1;
        return static_cast<std::uint64_t>(count_ * std::pow(eta_ * u - eta_ + 1, 1 / (1 - theta)));
    }

private:
    static constexpr double theta = 0.99;
    double count_;
    double sum_ = 0;
    double eta_ = 0;
};

/// Which keys numbers that follow each other give.
enum class key_order : std::uint8_t {
    random,     ///< far apart
    sequential, ///< each behind the one before
};

/// A key of 16 bytes.
class key {
public:
    explicit key(std::uint64_t number, key_order how = key_order::random) noexcept {
        auto bits = how == key_order::random ? noise{number}() : number;
        for (auto c = text_.rbegin(); c != text_.rend(); ++c) {
            *c = "0123456789abcdef"[bits & 15];
            bits >>= 4;
        }
    }
    [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), text_.size()}; }

private:
    std::array<char, 16> text_{};
};

/// Values of 100 bytes that do not compress: views into one stretch of noise, so that making one costs nothing.
class values {
public:
    static constexpr std::size_t bytes = 100;
    [[nodiscard]] std::string_view operator[](std::uint64_t number) const noexcept {
        return std::string_view{noise_}.substr(static_cast<std::size_t>(number * 127 % (noise_.size() - bytes)), bytes);
    }

private:
    std::string noise_ = noise{1}.text(1 << 20);
};

/// A folder of its own beneath `parent`, removed with everything in it.
class temporary_folder {
public:
    explicit temporary_folder(std::filesystem::path const& parent) {
        auto pattern = (parent / "keel-bench-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr)
            throw std::runtime_error{"cannot make a folder in " + parent.string()};
        path_ = pattern;
    }
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    temporary_folder(temporary_folder const&) = delete;
    temporary_folder& operator=(temporary_folder const&) = delete;

    [[nodiscard]] std::string operator/(std::string_view name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_{};
};

/// The value of a result; a benchmark whose machine says no ends here.
template <class Result>
auto must(Result&& got) {
    if (!got) throw std::runtime_error{to_string(got.error())};
    if constexpr (requires { *std::forward<Result>(got); }) return *std::forward<Result>(got);
}

} // namespace bench

#endif
