// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_CHOICE_HPP
#define KEEL_IO_DETAIL_MEMORY_CHOICE_HPP

// Decides what a simulated power loss keeps. All random numbers come from one seed: the same seed on the same disk gives the same disk, on
// every machine and with every standard library (so no <random> distributions).

#include <array>
#include <cstddef>
#include <cstdint>

namespace keel::inline v0::io {

/// Which version of each unsynced sector, size and name survives.
enum class keep : std::uint8_t {
    oldest, ///< only what was synced
    newest, ///< everything, as if all had been synced just before
    random, ///< each one separately, by the seed
};

/// How a simulated power loss chooses what survives.
struct power_loss {
    keep what = keep::random; ///< which versions survive
    std::uint64_t seed = 0;   ///< of the random choices
};

namespace detail {

/// Mixes the bits of a number (the finalizer of splitmix64).
[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

class seeded {
public:
    constexpr explicit seeded(std::uint64_t seed) noexcept : state_{mixed(seed)} {}

    constexpr std::uint64_t next() noexcept { return mixed(state_ += 0x9e3779b97f4a7c15U); }
    /// A number below `bound`. Precondition: `bound` is not 0. The remainder is slightly biased, which does not matter to a simulation.
    constexpr std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }

private:
    std::uint64_t state_;
};

/// Chooses versions for one power loss. Real crashes mostly leave nearly everything old or nearly everything new. With a fair coin for each
/// sector such states would be too rare. So the coin itself is chosen at random for each power loss. In one power loss of four it is chosen
/// for each file too (one file reached the disk, another did not).
class survivor_choice {
public:
    explicit survivor_choice(power_loss loss) noexcept : what_{loss.what}, random_{loss.seed} {
        each_file_ = random_.below(4) == 0;
        throw_coin();
    }

    void next_file() noexcept {
        if (each_file_) throw_coin();
    }

    /// An index below `count`: 0 is the synced version, count - 1 the newest.
    [[nodiscard]] std::size_t version(std::size_t count) noexcept {
        if (what_ == keep::oldest) return 0;
        if (what_ == keep::newest) return count - 1;
        auto const thrown = random_.below(weight_old_ + weight_new_ + weight_any_);
        if (thrown < weight_old_) return 0;
        if (thrown < weight_old_ + weight_new_) return count - 1;
        return static_cast<std::size_t>(random_.below(count));
    }

    [[nodiscard]] bool survives() noexcept { return version(2) == 1; }

private:
    void throw_coin() noexcept {
        struct weights {
            std::uint8_t old_one, new_one, any_one;
        };
        constexpr std::array<weights, 8> coins{
            {{0, 0, 1}, {1, 1, 1}, {8, 0, 1}, {0, 8, 1}, {40, 0, 1}, {0, 40, 1}, {4, 1, 1}, {1, 4, 1}}};
        auto const coin = coins[static_cast<std::size_t>(random_.below(coins.size()))];
        weight_old_ = coin.old_one;
        weight_new_ = coin.new_one;
        weight_any_ = coin.any_one;
    }

    keep what_;
    seeded random_;
    bool each_file_ = false;
    std::uint64_t weight_old_ = 0;
    std::uint64_t weight_new_ = 0;
    std::uint64_t weight_any_ = 1;
};

} // namespace detail
} // namespace keel::inline v0::io

#endif
