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
#include <keel/io/detail/fault_control.hpp>
#include <keel/io/detail/faulty_change.hpp>
#include <keel/io/detail/memory_choice.hpp>
#include <keel/io/fault_plan.hpp>
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
