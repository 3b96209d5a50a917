// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_FAULT_HPP
#define KEEL_IO_FAULT_HPP

// faulty<Inner>: a file system that works as Inner does, except where a plan injects faults. For keel's tests and for tests of users.
//
// A plan is a list of faults. Each fault names what goes wrong, at which operation (the n-th of a class, counted from 1 since the plan was
// set), and for how many operations. A seed decides what is left to chance (which bit, how much, where to). At most one fault hits an
// operation: the first one of the plan that fits. log() lists the faults that hit. A test with an empty log has tested nothing. Handles,
// files and mappings of one faulty share the plan. faulty is as thread-safe as Inner is. With several threads the numbers of operations
// depend on the order in which the threads run.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_choice.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io {

/// What goes wrong.
enum class fault_kind : std::uint8_t {
    fail, ///< any operation: EIO, nothing is done
    /// Operations that may need space: ENOSPC, nothing is done; ends after `count` operations or at refill().
    no_space,
    short_write,     ///< a write or store leaves a prefix, then EIO (a guarded SIGBUS gives the same for a store)
    fail_sync,       ///< a sync fails; an Inner with fail_sync() then treats its pages as clean, as Linux does
    lose_sync,       ///< a sync reports success and does nothing
    flip_read,       ///< one bit that a cached read returns is wrong; the next read is right
    flip_write,      ///< one bit of the stored bytes is wrong
    lose_write,      ///< a write reports success and does nothing
    misdirect_write, ///< a write goes to another place in the same file, a multiple of 512 bytes away
    repeat_write,    ///< after a write, an older write that was partly overwritten is made again at its old place
};
/// The number of kinds.
inline constexpr std::size_t fault_kinds = 10;

/// The class of an operation. Each operation belongs to one class, and to `any`.
enum class fault_class : std::uint8_t {
    any,
    read,      ///< read, read_uncached, file status, copy_out, verify
    write,     ///< write, allocate, punch_hole
    sync,      ///< syncs of files and mappings
    store,     ///< store, publish
    directory, ///< list, status, make_directory, rename, remove, sync_directory
    open,      ///< open, lock, map, bind_folder, lock_folder
};
/// The number of classes.
inline constexpr std::size_t fault_classes = 7;

/// The kind's name, for example "short_write".
[[nodiscard]] constexpr std::string_view name_of(fault_kind kind) noexcept {
    constexpr std::array<std::string_view, fault_kinds> names{
        "fail",      "no_space",   "short_write", "fail_sync",       "lose_sync",
        "flip_read", "flip_write", "lose_write",  "misdirect_write", "repeat_write"};
    return names[static_cast<std::size_t>(kind)];
}
/// The class's name, for example "read".
[[nodiscard]] constexpr std::string_view name_of(fault_class one) noexcept {
    constexpr std::array<std::string_view, fault_classes> names{"any",   "read",      "write", "sync",
                                                                "store", "directory", "open"};
    return names[static_cast<std::size_t>(one)];
}

/// fault::count of a fault that does not end.
inline constexpr std::uint64_t forever = std::numeric_limits<std::uint64_t>::max();

/// One fault of a plan.
struct fault {
    fault_kind kind = fault_kind::fail; ///< what goes wrong
    fault_class on = fault_class::any;  ///< the class of operations it may hit
    std::uint64_t at = 1;               ///< the first operation of the class it may hit
    /// How many operations of the class from there on; those it does not fit are spared, and counted.
    std::uint64_t count = 1;
    std::uint64_t seed = 0; ///< decides everything that is left to chance
};

/// A fault that hit, with enough facts to find the operation again.
struct fired_fault {
    fault_kind kind = fault_kind::fail; ///< what went wrong
    fault_class on = fault_class::any;  ///< what the operation was
    std::uint64_t operation = 0;        ///< its number among all
    std::string path;                   ///< the file or folder
    std::uint64_t offset = 0;           ///< what the caller asked for; of a repeated write the place written again
    /// Compares all members.
    bool operator==(fired_fault const&) const = default;
};

/// For people: "lose_write on write 7 to 9, seed 3".
[[nodiscard]] inline std::string to_string(fault const& f) {
    auto text = std::string{name_of(f.kind)} + " on " + std::string{name_of(f.on)} + " " + std::to_string(f.at);
    if (f.count == forever) text += " and later";
    else if (f.count != 1) text += " to " + std::to_string(f.at + f.count - 1);
    return text + ", seed " + std::to_string(f.seed);
}
/// For people: "lose_write hit operation 12 (write, log/..., offset 512)".
[[nodiscard]] inline std::string to_string(fired_fault const& f) {
    return std::string{name_of(f.kind)} + " hit operation " + std::to_string(f.operation) + " (" +
           std::string{name_of(f.on)} + ", " + f.path + ", offset " + std::to_string(f.offset) + ")";
}

/// The bounds of a random plan.
struct random_faults {
    std::size_t count_max = 3;          ///< number of faults: at least one, at most this
    std::uint64_t operations = 100;     ///< a fault begins at this operation of its class at the latest
    std::vector<fault_kind> kinds = {}; ///< empty: all
};

/// A list of faults. The first one that fits an operation hits it.
struct fault_plan {
    std::vector<fault> faults = {}; ///< of those that fit an operation the first one hits it

    /// A random plan. The same seed and bounds always give the same plan.
    [[nodiscard]] static fault_plan random(std::uint64_t seed, random_faults const& bounds = {});
};

namespace detail {

/// A fault that hits the current operation.
struct fault_hit {
    fault_kind kind;
    fault_class on;
    std::uint64_t operation;
    seeded random;
};

/// The state that all handles of one faulty file system share: plan, counters, log, and older writes for repeat_write.
class fault_control {
public:
    struct old_write {
        file_identity file;
        std::uint64_t offset = 0;
        std::vector<std::byte> bytes;
    };

    void set_plan(fault_plan plan) {
        auto const guard = std::lock_guard{mutex_};
        plan_ = std::move(plan.faults);
        over_.assign(plan_.size(), false);
        counts_ = {};
        log_.clear();
        older_.clear();
    }
    [[nodiscard]] fault_plan plan() const {
        auto const guard = std::lock_guard{mutex_};
        return {plan_};
    }
    void refill() {
        auto const guard = std::lock_guard{mutex_};
        for (std::size_t i = 0; i < plan_.size(); ++i)
            if (plan_[i].kind == fault_kind::no_space && count(plan_[i].on) >= plan_[i].at) over_[i] = true;
    }
    [[nodiscard]] std::uint64_t operations(fault_class on) const {
        auto const guard = std::lock_guard{mutex_};
        return count(on);
    }
    [[nodiscard]] std::vector<fired_fault> log() const {
        auto const guard = std::lock_guard{mutex_};
        return log_;
    }

    /// Counts an operation. Returns the fault that hits it, if the plan has one that fits and is in `possible`.
    [[nodiscard]] std::optional<fault_hit> next(fault_class on, std::initializer_list<fault_kind> possible) {
        auto const guard = std::lock_guard{mutex_};
        ++counts_[static_cast<std::size_t>(fault_class::any)];
        ++counts_[static_cast<std::size_t>(on)];
        auto const operation = count(fault_class::any);
        for (std::size_t i = 0; i < plan_.size(); ++i) {
            auto const& f = plan_[i];
            if (over_[i] || (f.on != fault_class::any && f.on != on)) continue;
            auto const number = count(f.on);
            if (number < f.at || number - f.at >= f.count) continue;
            if (std::find(possible.begin(), possible.end(), f.kind) == possible.end()) continue;
            return fault_hit{f.kind, on, operation, seeded{f.seed ^ mixed(number)}};
        }
        return {};
    }

    void note(fault_hit const& hit, std::string const& path, std::uint64_t offset) {
        auto const guard = std::lock_guard{mutex_};
        log_.push_back({hit.kind, hit.on, hit.operation, path, offset});
    }

    /// Logs the fault and returns its error.
    [[nodiscard]] tl::unexpected<error> refuse(fault_hit const& hit, std::string const& path,
                                               std::uint64_t offset = 0) {
        note(hit, path, offset);
        bool const full = hit.kind == fault_kind::no_space;
        return failure(error{.code = full ? errc::no_space : errc::io_error,
                             .message = "injected fault: " + std::string{name_of(hit.kind)},
                             .file = path,
                             .offset = offset,
                             .cause = full ? ENOSPC : EIO,
                             .retryable = full});
    }

    /// Keeps a write for a later repeat_write, if the plan has such a fault.
    void remember(file_identity const& file, std::uint64_t offset, byte_view bytes) {
        auto const guard = std::lock_guard{mutex_};
        auto const repeats = [](fault const& f) { return f.kind == fault_kind::repeat_write; };
        if (bytes.empty() || std::none_of(plan_.begin(), plan_.end(), repeats)) return;
        if (older_.size() == older_max) older_.pop_front();
        older_.push_back({file, offset, {bytes.begin(), bytes.end()}});
    }
    [[nodiscard]] std::vector<old_write> older_writes(file_identity const& file) const {
        auto const guard = std::lock_guard{mutex_};
        std::vector<old_write> found;
        std::copy_if(older_.begin(), older_.end(), std::back_inserter(found),
                     [&](old_write const& w) { return w.file == file; });
        return found;
    }

private:
    static constexpr std::size_t older_max = 256;

    [[nodiscard]] std::uint64_t count(fault_class on) const noexcept { return counts_[static_cast<std::size_t>(on)]; }

    mutable std::mutex mutex_;
    std::vector<fault> plan_;
    std::vector<bool> over_; // parallel to plan_: ended by refill()
    std::array<std::uint64_t, fault_classes> counts_{};
    std::vector<fired_fault> log_;
    std::deque<old_write> older_;
};

inline void flip_one_bit(byte_span bytes, seeded& random) noexcept {
    auto const bit = random.below(bytes.size() * 8);
    bytes[static_cast<std::size_t>(bit / 8)] ^= std::byte{1} << static_cast<int>(bit % 8);
}

/// The offset to which a misdirected write of `length` bytes goes. It lies within the first `size` bytes if another place fits there,
/// otherwise behind.
[[nodiscard]] inline std::uint64_t misdirected(std::uint64_t offset, std::uint64_t length, std::uint64_t size,
                                               seeded& random) noexcept {
    auto const first = offset % 512;
    auto const places = first + length <= size ? (size - length - first) / 512 + 1 : 0;
    auto const mine = offset / 512;
    if (places > (mine < places ? 1U : 0U)) {
        auto const chosen = random.below(mine < places ? places - 1 : places);
        return first + 512 * (chosen >= mine ? chosen + 1 : chosen);
    }
    return offset + 512 * (1 + random.below(8));
}

/// Makes a change, with or without a fault. It serves writes and stores. `Target` has path, identity, size() (bytes there now), fixed
/// (cannot grow), put(offset, bytes) and get(offset, span).
template <class Target>
class faulty_change {
public:
    faulty_change(fault_control& control, Target target) : control_{control}, target_{target} {}

    [[nodiscard]] result<void> operator()(std::optional<fault_hit> hit, std::uint64_t offset, byte_view bytes) {
        if (!hit || bytes.empty()) return plain(offset, bytes);
        switch (hit->kind) {
        case fault_kind::short_write: return cut_short(*hit, offset, bytes);
        case fault_kind::flip_write: return flipped(*hit, offset, bytes);
        case fault_kind::lose_write: control_.note(*hit, target_.path, offset); return {};
        case fault_kind::misdirect_write: return elsewhere(*hit, offset, bytes);
        case fault_kind::repeat_write: return repeated(*hit, offset, bytes);
        default: return control_.refuse(*hit, target_.path, offset);
        }
    }

private:
    [[nodiscard]] result<void> plain(std::uint64_t offset, byte_view bytes) {
        KEEL_TRY(target_.put(offset, bytes));
        control_.remember(target_.identity, offset, bytes);
        return {};
    }

    [[nodiscard]] result<void> cut_short(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        auto const kept = bytes.first(static_cast<std::size_t>(hit.random.below(bytes.size())));
        KEEL_TRY(plain(offset, kept));
        return control_.refuse(hit, target_.path, offset);
    }

    [[nodiscard]] result<void> flipped(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        std::vector<std::byte> wrong{bytes.begin(), bytes.end()};
        flip_one_bit(wrong, hit.random);
        KEEL_TRY(plain(offset, wrong));
        control_.note(hit, target_.path, offset);
        return {};
    }

    [[nodiscard]] result<void> elsewhere(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        KEEL_TRY_LET(size, target_.size());
        auto const wrong = misdirected(offset, bytes.size(), size, hit.random);
        if (target_.fixed && wrong + bytes.size() > size) return plain(offset, bytes);
        KEEL_TRY(target_.put(wrong, bytes));
        control_.note(hit, target_.path, offset);
        return {};
    }

    [[nodiscard]] result<void> repeated(fault_hit& hit, std::uint64_t offset, byte_view bytes) {
        auto older = control_.older_writes(target_.identity);
        KEEL_TRY(plain(offset, bytes));
        std::erase_if(older, [this](auto const& w) { return !overwritten(w); });
        if (older.empty()) return {};
        auto const& back = older[static_cast<std::size_t>(hit.random.below(older.size()))];
        KEEL_TRY(target_.put(back.offset, back.bytes));
        control_.note(hit, target_.path, back.offset);
        return {};
    }

    /// Whether the bytes at the place of the write differ from it now. Repeating it has an effect only then.
    [[nodiscard]] bool overwritten(fault_control::old_write const& w) {
        std::vector<std::byte> now(w.bytes.size());
        return target_.get(w.offset, now) && now != w.bytes;
    }

    fault_control& control_;
    Target target_;
};

} // namespace detail

inline fault_plan fault_plan::random(std::uint64_t seed, random_faults const& bounds) {
    detail::seeded chance{seed};
    auto const class_for = [&chance](fault_kind kind) {
        switch (kind) {
        case fault_kind::fail: return static_cast<fault_class>(chance.below(fault_classes));
        case fault_kind::no_space: return fault_class::any;
        case fault_kind::fail_sync:
        case fault_kind::lose_sync: return chance.below(4) == 0 ? fault_class::directory : fault_class::sync;
        case fault_kind::flip_read: return fault_class::read;
        default: return chance.below(2) == 0 ? fault_class::write : fault_class::store;
        }
    };
    auto const count_for = [&chance](fault_kind kind) -> std::uint64_t {
        if (kind == fault_kind::no_space && chance.below(2) == 0) return forever;
        if (kind == fault_kind::no_space || kind == fault_kind::repeat_write) return 1 + chance.below(20);
        return chance.below(4) == 0 ? 2 + chance.below(4) : 1;
    };
    fault_plan made;
    auto const faults = 1 + chance.below(std::max<std::size_t>(bounds.count_max, 1));
    for (std::uint64_t i = 0; i < faults; ++i) {
        fault one;
        one.kind = bounds.kinds.empty() ? static_cast<fault_kind>(chance.below(fault_kinds))
                                        : bounds.kinds[static_cast<std::size_t>(chance.below(bounds.kinds.size()))];
        one.on = class_for(one.kind);
        one.at = 1 + chance.below(std::max<std::uint64_t>(bounds.operations, 1));
        one.count = count_for(one.kind);
        one.seed = chance.next();
        made.faults.push_back(one);
    }
    return made;
}

/// A file system that works as `Inner` does, except for the faults of a plan; see the head of this file. Copies share plan and counters.
template <class Inner>
class faulty {
    using control_ptr = std::shared_ptr<detail::fault_control>;
    using kind = fault_kind;

    /// Syncs a file or a mapping.
    template <class Synced>
    [[nodiscard]] static result<void> sync(detail::fault_control& control, Synced& inner) {
        auto const hit = control.next(fault_class::sync, {kind::fail, kind::fail_sync, kind::lose_sync});
        if (!hit) return inner.sync();
        if (hit->kind == kind::lose_sync) {
            control.note(*hit, inner.path(), 0);
            return {};
        }
        if constexpr (requires { inner.fail_sync(); }) {
            if (hit->kind == kind::fail_sync) inner.fail_sync();
        }
        return control.refuse(*hit, inner.path());
    }

public:
    /// The lock of the file system beneath.
    using lock_type = typename Inner::lock_type;

    /// A mapping whose calls are counted and hit by faults.
    class mapping {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::uint64_t size() const noexcept { return inner_.size(); }
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

        [[nodiscard]] result<void> store(std::uint64_t offset, byte_view bytes) {
            auto const put = [this](std::uint64_t at, byte_view what) { return inner_.store(at, what); };
            return change(offset, bytes, put,
                          {kind::fail, kind::no_space, kind::short_write, kind::flip_write, kind::lose_write,
                           kind::misdirect_write, kind::repeat_write});
        }
        [[nodiscard]] result<void> publish(std::uint64_t offset, std::uint32_t word) {
            if (offset % sizeof word != 0) return inner_.publish(offset, word); // Inner refuses it
            auto const put = [this](std::uint64_t at, byte_view what) {
                bool const is_word = what.size() == sizeof word && at % sizeof word == 0;
                if (!is_word) return inner_.store(at, what); // an older write that is repeated
                std::uint32_t changed = 0;
                std::copy(what.begin(), what.end(), std::as_writable_bytes(std::span{&changed, 1}).begin());
                return inner_.publish(at, changed);
            };
            return change(offset, std::as_bytes(std::span{&word, 1}), put,
                          {kind::fail, kind::no_space, kind::flip_write, kind::lose_write, kind::misdirect_write,
                           kind::repeat_write});
        }
        [[nodiscard]] result<void> copy_out(std::uint64_t offset, byte_span out) const {
            auto hit = control_->next(fault_class::read, {kind::fail, kind::flip_read});
            if (hit && hit->kind == kind::fail) return control_->refuse(*hit, path(), offset);
            KEEL_TRY(inner_.copy_out(offset, out));
            if (!hit || out.empty()) return {};
            detail::flip_one_bit(out, hit->random);
            control_->note(*hit, path(), offset);
            return {};
        }
        template <class Checksum>
        [[nodiscard]] result<void> verify(std::uint64_t offset, std::uint64_t length, Checksum& sum) const {
            auto hit = control_->next(fault_class::read, {kind::fail, kind::flip_read});
            if (hit && hit->kind == kind::fail) return control_->refuse(*hit, path(), offset);
            if (!hit || length == 0 || length > size()) return inner_.verify(offset, length, sum);
            std::vector<std::byte> copy(static_cast<std::size_t>(length));
            KEEL_TRY(inner_.copy_out(offset, copy));
            detail::flip_one_bit(copy, hit->random);
            control_->note(*hit, path(), offset);
            sum.update(byte_view{copy});
            return {};
        }
        [[nodiscard]] result<void> sync() { return faulty::sync(*control_, inner_); }
        /// @}

        /// The mapping beneath. Calls of it are neither counted nor hit.
        [[nodiscard]] typename Inner::mapping& inner() noexcept { return inner_; }

    private:
        friend class faulty;
        mapping(typename Inner::mapping inner, control_ptr control, file_identity identity)
            : inner_{std::move(inner)}, control_{std::move(control)}, identity_{identity} {}

        template <class Put>
        struct target {
            typename Inner::mapping& inner;
            Put put;
            std::string const& path;
            file_identity identity;
            static constexpr bool fixed = true;
            [[nodiscard]] result<std::uint64_t> size() const { return inner.size(); }
            [[nodiscard]] bool get(std::uint64_t at, byte_span out) const {
                return inner.copy_out(at, out).has_value();
            }
        };

        template <class Put>
        [[nodiscard]] result<void> change(std::uint64_t offset, byte_view bytes, Put put,
                                          std::initializer_list<kind> possible) {
            auto const hit = control_->next(fault_class::store, possible);
            detail::faulty_change<target<Put>> make{*control_, {inner_, put, inner_.path(), identity_}};
            bool const outside = offset > size() || bytes.size() > size() - offset; // Inner refuses it, without a fault
            return make(outside ? std::nullopt : hit, offset, bytes);
        }

        typename Inner::mapping inner_;
        control_ptr control_;
        file_identity identity_;
    };

    /// An open file whose calls are counted and hit by faults.
    class file {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            auto hit = control_->next(fault_class::read, {kind::fail, kind::flip_read});
            if (hit && hit->kind == kind::fail) return control_->refuse(*hit, path(), offset);
            KEEL_TRY_LET(got, inner_.read(offset, out));
            if (!hit || got == 0) return got;
            detail::flip_one_bit(out.first(got), hit->random);
            control_->note(*hit, path(), offset);
            return got;
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            auto const hit = control_->next(fault_class::read, {kind::fail});
            if (hit) return control_->refuse(*hit, path(), offset);
            return inner_.read_uncached(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t offset, byte_view bytes) {
            auto const hit = control_->next(fault_class::write,
                                            {kind::fail, kind::no_space, kind::short_write, kind::flip_write,
                                             kind::lose_write, kind::misdirect_write, kind::repeat_write});
            return detail::faulty_change<target>{*control_, {inner_, inner_.path(), identity_}}(hit, offset, bytes);
        }
        [[nodiscard]] result<void> sync() { return faulty::sync(*control_, inner_); }
        [[nodiscard]] result<void> allocate(std::uint64_t bytes) {
            auto const hit = control_->next(fault_class::write, {kind::fail, kind::no_space});
            if (hit) return control_->refuse(*hit, path());
            return inner_.allocate(bytes);
        }
        /// If a fault hits, the file keeps its blocks.
        void punch_hole(std::uint64_t offset, std::uint64_t bytes)
            requires punches_holes<typename Inner::file>
        {
            auto const hit = control_->next(fault_class::write, {kind::fail});
            if (hit) return control_->note(*hit, path(), offset);
            inner_.punch_hole(offset, bytes);
        }
        [[nodiscard]] result<file_status> status() const {
            auto const hit = control_->next(fault_class::read, {kind::fail});
            if (hit) return control_->refuse(*hit, path());
            return inner_.status();
        }
        [[nodiscard]] result<mapping> map(access how) const {
            auto const hit = control_->next(fault_class::open, {kind::fail});
            if (hit) return control_->refuse(*hit, path());
            KEEL_TRY_LET(made, inner_.map(how));
            return mapping{std::move(made), control_, identity_};
        }

        /// @}
        /// The file beneath. Calls of it are neither counted nor hit.
        [[nodiscard]] typename Inner::file& inner() noexcept { return inner_; }

    private:
        friend class faulty;
        file(typename Inner::file inner, control_ptr control, file_identity identity)
            : inner_{std::move(inner)}, control_{std::move(control)}, identity_{identity} {}

        struct target {
            typename Inner::file& inner;
            std::string const& path;
            file_identity identity;
            static constexpr bool fixed = false;
            [[nodiscard]] result<std::uint64_t> size() const {
                KEEL_TRY_LET(now, inner.status());
                return now.size;
            }
            [[nodiscard]] result<void> put(std::uint64_t at, byte_view bytes) const { return inner.write(at, bytes); }
            [[nodiscard]] bool get(std::uint64_t at, byte_span out) const {
                auto const got = inner.read(at, out);
                return got && *got == out.size();
            }
        };

        typename Inner::file inner_;
        control_ptr control_;
        file_identity identity_;
    };

    /// A default-constructed `Inner` without faults.
    faulty() : faulty{Inner{}} {}
    /// Injects the faults of `plan` into `inner`.
    explicit faulty(Inner inner, fault_plan plan = {})
        : inner_{std::move(inner)}, control_{std::make_shared<detail::fault_control>()} {
        control_->set_plan(std::move(plan));
    }

    /// The wrapped file system. Operations made on it directly are not counted and get no faults.
    [[nodiscard]] Inner& inner() noexcept { return inner_; }
    /// The file system beneath, to be read.
    [[nodiscard]] Inner const& inner() const noexcept { return inner_; }

    /// Sets the plan. It takes effect at the next operation. Counters and log start again from zero.
    void set_plan(fault_plan plan) { control_->set_plan(std::move(plan)); }
    /// The plan as it was set.
    [[nodiscard]] fault_plan plan() const { return control_->plan(); }
    /// Ends every no_space fault that has begun.
    void refill() { control_->refill(); }

    /// Number of operations of a class since the plan was set.
    [[nodiscard]] std::uint64_t operations(fault_class on = fault_class::any) const { return control_->operations(on); }
    /// Number of faults that hit since the plan was set.
    [[nodiscard]] std::uint64_t fired() const { return control_->log().size(); }
    /// The faults that hit since the plan was set, in order.
    [[nodiscard]] std::vector<fired_fault> log() const { return control_->log(); }

    // The file system (io/concept.hpp)

    /// A call that io/concept.hpp describes.
    /// @{
    [[nodiscard]] result<file> open(std::string const& path, access how, creation make) {
        auto const hit = make == creation::must_exist ? control_->next(fault_class::open, {kind::fail})
                                                      : control_->next(fault_class::open, {kind::fail, kind::no_space});
        if (hit) return control_->refuse(*hit, path);
        KEEL_TRY_LET(opened, inner_.open(path, how, make));
        auto const status = opened.status();
        return file{std::move(opened), control_, status ? status->identity : file_identity{}};
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, lock_mode mode) {
        auto const hit = mode == lock_mode::shared ? control_->next(fault_class::open, {kind::fail})
                                                   : control_->next(fault_class::open, {kind::fail, kind::no_space});
        if (hit) return control_->refuse(*hit, path);
        return inner_.lock(path, mode);
    }
    [[nodiscard]] result<std::vector<directory_entry>> list(std::string const& path) {
        KEEL_TRY(name_call(path, {kind::fail}));
        return inner_.list(path);
    }
    [[nodiscard]] result<file_status> status(std::string const& path) {
        KEEL_TRY(name_call(path, {kind::fail}));
        return inner_.status(path);
    }
    [[nodiscard]] result<void> make_directory(std::string const& path) {
        KEEL_TRY(name_call(path, {kind::fail, kind::no_space}));
        return inner_.make_directory(path);
    }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) {
        KEEL_TRY(name_call(from, {kind::fail, kind::no_space}));
        return inner_.rename(from, to);
    }
    [[nodiscard]] result<void> remove(std::string const& path) {
        KEEL_TRY(name_call(path, {kind::fail}));
        return inner_.remove(path);
    }
    [[nodiscard]] result<void> sync_directory(std::string const& path) {
        auto const hit = control_->next(fault_class::directory, {kind::fail, kind::fail_sync, kind::lose_sync});
        if (!hit) return inner_.sync_directory(path);
        if (hit->kind != kind::lose_sync) return control_->refuse(*hit, path);
        control_->note(*hit, path, 0);
        return {};
    }
    [[nodiscard]] boot_id boot() { return inner_.boot(); }
    /// The new handle shares plan and counters with this one.
    [[nodiscard]] result<faulty> bind_folder(std::string const& path)
        requires binds_folders<Inner>
    {
        auto const hit = control_->next(fault_class::open, {kind::fail});
        if (hit) return control_->refuse(*hit, path);
        KEEL_TRY_LET(bound, inner_.bind_folder(path));
        auto copy = *this;
        copy.inner_ = std::move(bound);
        return copy;
    }
    /// A call that io/concept.hpp describes.
    [[nodiscard]] result<lock_type> lock_folder(std::string const& path, lock_mode mode)
        requires locks_folders<Inner>
    {
        auto const hit = control_->next(fault_class::open, {kind::fail});
        if (hit) return control_->refuse(*hit, path);
        return inner_.lock_folder(path, mode);
    }

private:
    [[nodiscard]] result<void> name_call(std::string const& path, std::initializer_list<kind> possible) {
        auto const hit = control_->next(fault_class::directory, possible);
        if (hit) return control_->refuse(*hit, path);
        return {};
    }

    Inner inner_;
    control_ptr control_;
};

} // namespace keel::inline v0::io

#endif
