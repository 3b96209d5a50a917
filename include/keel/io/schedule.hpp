// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_SCHEDULE_HPP
#define KEEL_IO_SCHEDULE_HPP

// scheduled<Inner>: a file system that works as Inner does and calls a hook before each call, and another hook after it. For tests of
// programs with several threads, keel's own and those of users. Every call is a point where another thread may run first.
//
// The hooks run on the thread that makes the call. The hook before a call may make that thread wait while other threads run. Nothing has
// been done at that time. A test that lets one thread run at a time can thus go through the orders in which threads reach the disk. A
// `schedule` is such an order: a list of switches, "at place 17 thread 1 goes on". It can be printed as text and parsed again, so that a
// failed run can be repeated.
//
// Handles, files, mappings and locks of one scheduled share the hooks. scheduled is as thread-safe as Inner is. on_call() must not run at
// the same time as a call. This file does not decide which thread runs: keel's own tests do that in tests/support/turns.hpp.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <array>
#include <charconv>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace keel::inline v0::io {

/// The calls that scheduled has, and so the calls that reach the hooks: the required calls of io/concept.hpp, verify, and punch_hole.
/// `unlock`: the destructor of a lock releases it.
enum class io_call : std::uint8_t {
    open,
    lock,
    unlock,
    list,
    status,
    make_directory,
    rename,
    remove,
    sync_directory,
    boot,
    read,
    read_uncached,
    write,
    sync,
    allocate,
    file_status,
    map,
    store,
    publish,
    copy_out,
    verify,
    mapping_sync,
    punch_hole,
};
/// The number of calls.
inline constexpr std::size_t io_calls = 23;

/// The call's name, for example "copy_out".
[[nodiscard]] constexpr std::string_view name_of(io_call call) noexcept {
    constexpr std::array<std::string_view, io_calls> names{
        "open",    "lock",     "unlock",         "list",         "status",    "make_directory",
        "rename",  "remove",   "sync_directory", "boot",         "read",      "read_uncached",
        "write",   "sync",     "allocate",       "file_status",  "map",       "store",
        "publish", "copy_out", "verify",         "mapping_sync", "punch_hole"};
    return names[static_cast<std::size_t>(call)];
}

/// A call that is about to be made.
struct switch_point {
    io_call call = io_call::open; ///< the call
    std::string_view path{};      ///< as the caller named it; of a rename the old name; none for boot
    std::uint64_t offset = 0;     ///< of a read, write, store, copy or hole
    std::uint64_t length = 0;     ///< likewise, in bytes; of an allocation the size asked for
};

/// A switch: at place `at` thread `to` goes on instead of the running thread. Places are counted from 1 over all threads, in the order in
/// which the threads reach them. A place is a call, or anything else that the test counts. Place 0: thread `to` runs first.
struct thread_switch {
    std::uint64_t at = 0; ///< the place
    std::uint32_t to = 0; ///< the thread
    /// Compares `at`, then `to`.
    constexpr auto operator<=>(thread_switch const&) const noexcept = default;
};

/// Which thread goes on when the running thread waits or ends: the next thread that can run, counting thread numbers up or down.
enum class successor : std::uint8_t { upwards, downwards };

/// A schedule: which thread runs when. The switches are sorted by their places.
struct schedule {
    std::vector<thread_switch> switches{};     ///< in the order of their places
    successor after_wait = successor::upwards; ///< who goes on after a wait
    /// Compares all members.
    auto operator<=>(schedule const&) const = default;
};

/// "17>1,23>0": at place 17 thread 1 goes on, at place 23 thread 0. A '-' in front: after a wait the threads are tried downwards.
[[nodiscard]] inline std::string to_string(schedule const& s) {
    std::string text = s.after_wait == successor::downwards ? "-" : "";
    for (auto const& one : s.switches) {
        if (&one != &s.switches.front()) text += ',';
        text += std::to_string(one.at) + '>' + std::to_string(one.to);
    }
    return text;
}

namespace detail {

/// Reads a number at the front of the text and removes it from the text.
template <class Number>
[[nodiscard]] std::optional<Number> take_number(std::string_view& text) noexcept {
    Number value{};
    auto const [end, trouble] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (trouble != std::errc{}) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}
[[nodiscard]] inline bool take_char(std::string_view& text, char wanted) noexcept {
    if (!text.starts_with(wanted)) return false;
    text.remove_prefix(1);
    return true;
}

} // namespace detail

/// Parses the text of to_string(). std::nullopt: the text is something else, or its places are not in order.
[[nodiscard]] inline std::optional<schedule> parse_schedule(std::string_view text) {
    schedule out;
    if (detail::take_char(text, '-')) out.after_wait = successor::downwards;
    while (!text.empty()) {
        if (!out.switches.empty() && !detail::take_char(text, ',')) return std::nullopt;
        auto const at = detail::take_number<std::uint64_t>(text);
        if (!at || !detail::take_char(text, '>')) return std::nullopt;
        auto const to = detail::take_number<std::uint32_t>(text);
        if (!to || (!out.switches.empty() && *at <= out.switches.back().at)) return std::nullopt;
        out.switches.push_back({*at, *to});
    }
    return out;
}

namespace detail {

/// The state that all handles of one scheduled file system share.
class schedule_control {
public:
    using hook = std::function<void(switch_point const&)>;

    /// Exists while a call is made: the constructor calls the first hook, the destructor the second.
    class call {
    public:
        call(schedule_control const& of, switch_point const& what) : of_{of}, what_{what} {
            if (of_.before_) of_.before_(what_);
        }
        call(call const&) = delete;
        call& operator=(call const&) = delete;
        ~call() {
            if (of_.after_) of_.after_(what_);
        }

    private:
        schedule_control const& of_;
        switch_point what_;
    };

    void set_hooks(hook before, hook after) {
        before_ = std::move(before);
        after_ = std::move(after);
    }

private:
    hook before_{};
    hook after_{};
};

} // namespace detail

/// A file system that works as `Inner` does and tells hooks of each call; see the head of this file. Copies share the hooks.
template <class Inner>
class scheduled {
    using control_ptr = std::shared_ptr<detail::schedule_control>;

public:
    /// Its release is a call too, because another thread or process may take the lock after it.
    class lock_type {
    public:
        /// Takes the lock of another object.
        lock_type(lock_type&& other) noexcept
            : inner_{std::exchange(other.inner_, std::nullopt)}, control_{other.control_},
              path_{std::move(other.path_)} {}
        /// Releases this lock and takes that of the other object.
        lock_type& operator=(lock_type&& other) noexcept {
            if (this == &other) return *this;
            unlock();
            inner_ = std::exchange(other.inner_, std::nullopt);
            control_ = other.control_;
            path_ = std::move(other.path_);
            return *this;
        }
        ~lock_type() { unlock(); }

    private:
        friend class scheduled;
        lock_type(typename Inner::lock_type inner, control_ptr control, std::string path)
            : inner_{std::move(inner)}, control_{std::move(control)}, path_{std::move(path)} {}
        void unlock() noexcept {
            if (!inner_) return;
            detail::schedule_control::call const now{*control_, {.call = io_call::unlock, .path = path_}};
            inner_.reset();
        }
        std::optional<typename Inner::lock_type> inner_;
        control_ptr control_;
        std::string path_;
    };

    /// A mapping whose calls are told to the hooks.
    class mapping {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::uint64_t size() const noexcept { return inner_.size(); }
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

        [[nodiscard]] result<void> store(std::uint64_t offset, byte_view bytes) {
            auto const now = making(io_call::store, offset, bytes.size());
            return inner_.store(offset, bytes);
        }
        [[nodiscard]] result<void> publish(std::uint64_t offset, std::uint32_t word) {
            auto const now = making(io_call::publish, offset, sizeof word);
            return inner_.publish(offset, word);
        }
        [[nodiscard]] result<void> copy_out(std::uint64_t offset, byte_span out) const {
            auto const now = making(io_call::copy_out, offset, out.size());
            return inner_.copy_out(offset, out);
        }
        template <class Checksum>
        [[nodiscard]] result<void> verify(std::uint64_t offset, std::uint64_t length, Checksum& sum) const {
            auto const now = making(io_call::verify, offset, length);
            return inner_.verify(offset, length, sum);
        }
        [[nodiscard]] result<void> sync() {
            auto const now = making(io_call::mapping_sync, 0, 0);
            return inner_.sync();
        }

        /// @}
        /// The mapping beneath. Calls of it are told to nobody.
        [[nodiscard]] typename Inner::mapping& inner() noexcept { return inner_; }

    private:
        friend class scheduled;
        mapping(typename Inner::mapping inner, control_ptr control)
            : inner_{std::move(inner)}, control_{std::move(control)} {}
        [[nodiscard]] detail::schedule_control::call making(io_call call, std::uint64_t offset,
                                                            std::uint64_t length) const {
            return {*control_, {call, path(), offset, length}};
        }
        typename Inner::mapping inner_;
        control_ptr control_;
    };

    /// An open file whose calls are told to the hooks.
    class file {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            auto const now = making(io_call::read, offset, out.size());
            return inner_.read(offset, out);
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            auto const now = making(io_call::read_uncached, offset, out.size());
            return inner_.read_uncached(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t offset, byte_view bytes) {
            auto const now = making(io_call::write, offset, bytes.size());
            return inner_.write(offset, bytes);
        }
        [[nodiscard]] result<void> sync() {
            auto const now = making(io_call::sync, 0, 0);
            return inner_.sync();
        }
        [[nodiscard]] result<void> allocate(std::uint64_t bytes) {
            auto const now = making(io_call::allocate, 0, bytes);
            return inner_.allocate(bytes);
        }
        void punch_hole(std::uint64_t offset, std::uint64_t bytes)
            requires punches_holes<typename Inner::file>
        {
            auto const now = making(io_call::punch_hole, offset, bytes);
            inner_.punch_hole(offset, bytes);
        }
        [[nodiscard]] result<io::file_status> status() const {
            auto const now = making(io_call::file_status, 0, 0);
            return inner_.status();
        }
        [[nodiscard]] result<mapping> map(access how) const {
            auto const now = making(io_call::map, 0, 0);
            KEEL_TRY_LET(made, inner_.map(how));
            return mapping{std::move(made), control_};
        }

        /// @}
        /// The file beneath. Calls of it are told to nobody.
        [[nodiscard]] typename Inner::file& inner() noexcept { return inner_; }

    private:
        friend class scheduled;
        file(typename Inner::file inner, control_ptr control)
            : inner_{std::move(inner)}, control_{std::move(control)} {}
        [[nodiscard]] detail::schedule_control::call making(io_call call, std::uint64_t offset,
                                                            std::uint64_t length) const {
            return {*control_, {call, path(), offset, length}};
        }
        typename Inner::file inner_;
        control_ptr control_;
    };

    /// A default-constructed `Inner` without hooks.
    scheduled() : scheduled{Inner{}} {}
    /// Tells of the calls of `inner`, once on_call() has set hooks.
    explicit scheduled(Inner inner)
        : inner_{std::move(inner)}, control_{std::make_shared<detail::schedule_control>()} {}

    /// The wrapped file system. Calls made on it directly do not reach the hooks.
    [[nodiscard]] Inner& inner() noexcept { return inner_; }
    /// The file system beneath, to be read.
    [[nodiscard]] Inner const& inner() const noexcept { return inner_; }

    /// Calls `before` before each call and `after` after it, whether or not the call failed. Empty functions end this. The hooks must not
    /// throw.
    void on_call(std::function<void(switch_point const&)> before, std::function<void(switch_point const&)> after = {}) {
        control_->set_hooks(std::move(before), std::move(after));
    }

    // The file system (io/concept.hpp)

    /// A call that io/concept.hpp describes.
    /// @{
    [[nodiscard]] result<file> open(std::string const& path, access how, creation make) {
        auto const now = making(io_call::open, path);
        KEEL_TRY_LET(opened, inner_.open(path, how, make));
        return file{std::move(opened), control_};
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, lock_mode mode) {
        auto const now = making(io_call::lock, path);
        KEEL_TRY_LET(held, inner_.lock(path, mode));
        return lock_type{std::move(held), control_, path};
    }
    [[nodiscard]] result<std::vector<directory_entry>> list(std::string const& path) {
        auto const now = making(io_call::list, path);
        return inner_.list(path);
    }
    [[nodiscard]] result<file_status> status(std::string const& path) {
        auto const now = making(io_call::status, path);
        return inner_.status(path);
    }
    [[nodiscard]] result<void> make_directory(std::string const& path) {
        auto const now = making(io_call::make_directory, path);
        return inner_.make_directory(path);
    }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) {
        auto const now = making(io_call::rename, from);
        return inner_.rename(from, to);
    }
    [[nodiscard]] result<void> remove(std::string const& path) {
        auto const now = making(io_call::remove, path);
        return inner_.remove(path);
    }
    [[nodiscard]] result<void> sync_directory(std::string const& path) {
        auto const now = making(io_call::sync_directory, path);
        return inner_.sync_directory(path);
    }
    [[nodiscard]] boot_id boot() {
        auto const now = making(io_call::boot, {});
        return inner_.boot();
    }
    /// @}

private:
    [[nodiscard]] detail::schedule_control::call making(io_call call, std::string_view path) const {
        return {*control_, {.call = call, .path = path}};
    }

    Inner inner_;
    control_ptr control_;
};

} // namespace keel::inline v0::io

#endif
