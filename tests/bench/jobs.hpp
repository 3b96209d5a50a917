// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_JOBS_HPP
#define KEEL_BENCH_JOBS_HPP

// Jobs, each in a process of its own, and the table of what they measured. A job leaves its process without tidying up: what
// closing costs is in no figure, and what a killed process leaves behind is there for the next job.

#include "chart.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace bench {

/// Live bytes of operator new and their peak, where counting was switched on (peers_bench.cpp replaces the operators).
struct heap_counter {
    static inline std::atomic<bool> on{false};
    static inline std::atomic<std::int64_t> live{0};
    static inline std::atomic<std::int64_t> peak{0};

    static void took(void* memory) noexcept {
        if (!on.load(std::memory_order_relaxed)) return;
        auto const bytes = static_cast<std::int64_t>(::malloc_usable_size(memory));
        auto const now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
        for (auto seen = peak.load(std::memory_order_relaxed); seen < now && !peak.compare_exchange_weak(seen, now);) {}
    }
    static void gave(void* memory) noexcept {
        if (!on.load(std::memory_order_relaxed) || memory == nullptr) return;
        live.fetch_sub(static_cast<std::int64_t>(::malloc_usable_size(memory)), std::memory_order_relaxed);
    }
    [[nodiscard]] static double peak_mb() noexcept { return static_cast<double>(peak.load()) / 1e6; }
};

/// The most memory this process ever had resident, in MB.
[[nodiscard]] inline double resident_peak_mb() {
    std::ifstream status{"/proc/self/status"};
    for (std::string word; status >> word;)
        if (double kib = 0; word == "VmHWM:" && status >> kib) return kib * 1024 / 1e6;
    return 0;
}

/// Bytes this process has made the file system write, or will have once it writes back, in MB.
[[nodiscard]] inline double written_mb() {
    std::ifstream io{"/proc/self/io"};
    for (std::string word; io >> word;)
        if (double bytes = 0; word == "write_bytes:" && io >> bytes) return bytes / 1e6;
    return 0;
}

/// Seconds on the wall and of this process on all its processors, since it was made.
class stopwatch {
public:
    [[nodiscard]] double wall() const { return std::chrono::duration<double>(clock::now() - started_).count(); }
    [[nodiscard]] double cpu() const { return cpu_now() - cpu_started_; }

private:
    using clock = std::chrono::steady_clock;
    [[nodiscard]] static double cpu_now() {
        timespec t{};
        ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
    }
    clock::time_point started_ = clock::now();
    double cpu_started_ = cpu_now();
};

struct figure {
    std::string metric{};
    double value = 0;
    std::string unit{};
};
using figures = std::vector<figure>;

namespace detail {

[[noreturn]] inline void run_child(std::function<figures()> const& job, int to, bool killed) {
    std::ostringstream text;
    try {
        for (auto const& f : job()) text << f.metric << ' ' << f.value << ' ' << f.unit << '\n';
    } catch (std::exception const& why) {
        std::fprintf(stderr, "peers_bench: %s\n", why.what());
        ::_exit(1);
    }
    if (killed) ::raise(SIGKILL);
    auto const out = text.str();
    ::_exit(::write(to, out.data(), out.size()) == static_cast<ssize_t>(out.size()) ? 0 : 1);
}

[[nodiscard]] inline std::string read_all(int from) {
    std::string text;
    char part[4096];
    for (ssize_t got; (got = ::read(from, part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(got));
    return text;
}

[[nodiscard]] inline figures run(std::function<figures()> const& job, bool killed) {
    int pipe[2];
    if (::pipe(pipe) != 0) throw std::runtime_error{"no pipe"};
    auto const child = ::fork();
    if (child == 0) run_child(job, pipe[1], killed);
    ::close(pipe[1]);
    auto const text = read_all(pipe[0]);
    ::close(pipe[0]);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) throw std::runtime_error{"no child process"};
    bool const ended_well = killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                   : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!ended_well) throw std::runtime_error{"a job failed"};
    figures out;
    std::istringstream lines{text};
    for (figure f; lines >> f.metric >> f.value >> f.unit;) out.push_back(f);
    return out;
}

} // namespace detail

/// Runs the job in a child process and gives what it measured.
[[nodiscard]] inline figures in_own_process(std::function<figures()> const& job) { return detail::run(job, false); }

/// Runs the job in a child process that dies by SIGKILL as soon as the job is done.
inline void in_killed_process(std::function<void()> const& job) {
    static_cast<void>(detail::run(
        [&]() -> figures {
            job();
            return {};
        },
        true));
}

/// All figures of a run. Prints `name peer metric value unit`, and how keel stands to the best of the others.
class table {
public:
    explicit table(bool best_round) : best_round_{best_round} {}

    void add(std::string const& name, std::string const& peer, figures const& all) {
        std::fprintf(stderr, "%s %s done\n", name.c_str(), peer.c_str()); // a run takes long
        for (auto const& f : all) {
            rows_[{name, f.metric, peer}].push_back(f.value);
            units_[{name, f.metric}] = f.unit;
        }
    }

    void print() const {
        for (auto const& [row, values] : rows_) {
            auto const& [name, metric, peer] = row;
            auto const& unit = units_.at({name, metric});
            std::printf("%s %s %s %.4g %s\n", name.c_str(), peer.c_str(), metric.c_str(), value_of(values, unit),
                        unit.c_str());
        }
        for (auto const& [row, values] : rows_)
            if (std::get<2>(row) == "keel") print_ratio(std::get<0>(row), std::get<1>(row), values);
    }

    /// Every figure once, with the values of all rounds: {"name": {"metric": {"unit": .., "peers": {"keel": {"value": .., "rounds": [..]}}}}}.
    [[nodiscard]] nlohmann::json json() const {
        nlohmann::json out = nlohmann::json::object();
        for (auto const& [row, values] : rows_) {
            auto const& [name, metric, peer] = row;
            auto const& unit = units_.at({name, metric});
            auto& one = out[name][metric];
            one["unit"] = unit;
            one["peers"][peer] = {{"value", value_of(values, unit)}, {"rounds", values}};
        }
        return out;
    }
    /// The figures that more than one peer has.
    [[nodiscard]] std::vector<chart_row> chart() const {
        std::map<std::pair<std::string, std::string>, chart_row> all;
        for (auto const& [row, values] : rows_) {
            auto const& [name, metric, peer] = row;
            auto const& unit = units_.at({name, metric});
            auto& one = all[{name, metric}];
            one.title = name + ", " + metric;
            one.unit = unit;
            one.larger_is_better = larger_is_better(unit);
            one.values.emplace_back(peer, value_of(values, unit));
        }
        std::vector<chart_row> out;
        for (auto& [name, row] : all)
            if (row.values.size() > 1) out.push_back(std::move(row));
        return out;
    }

private:
    /// Rates are better the larger they are, times and bytes the smaller.
    [[nodiscard]] static bool larger_is_better(std::string const& unit) { return unit.ends_with("/s"); }

    [[nodiscard]] double value_of(std::vector<double> values, std::string const& unit) const {
        std::ranges::sort(values);
        if (best_round_) return larger_is_better(unit) ? values.back() : values.front();
        auto const half = values.size() / 2;
        return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    }

    void print_ratio(std::string const& name, std::string const& metric, std::vector<double> const& ours) const {
        auto const& unit = units_.at({name, metric});
        bool const larger = larger_is_better(unit);
        std::string peer;
        double best = 0;
        for (auto const& [row, values] : rows_) {
            if (std::get<0>(row) != name || std::get<1>(row) != metric || std::get<2>(row).starts_with("keel"))
                continue;
            auto const value = value_of(values, unit);
            if (peer.empty() || (larger ? value > best : value < best)) {
                best = value;
                peer = std::get<2>(row);
            }
        }
        if (peer.empty()) return;
        std::printf("%s keel/%s %s %.3g x\n", name.c_str(), peer.c_str(), metric.c_str(), value_of(ours, unit) / best);
    }

    bool best_round_;
    std::map<std::tuple<std::string, std::string, std::string>, std::vector<double>> rows_{};
    std::map<std::pair<std::string, std::string>, std::string> units_{};
};

} // namespace bench

#endif
