// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_LOG_DEFINITIONS_HPP
#define KEEL_ENGINE_LOG_DEFINITIONS_HPP

// The definitions of the functions that record_log.hpp declares. Each call is passed on to the implementation (engine/log_body.hpp).

#include <keel/config.hpp>
#include <keel/engine/log_body.hpp>
#include <keel/error.hpp>
#include <keel/record_log.hpp>
#include <keel/types.hpp>
#include <keel/wal/store_lifetime.hpp>
#include <keel/wal/writer.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace keel::inline v0 {

namespace detail {

template <class Config>
constexpr std::uint64_t log_record_bytes_max_of() noexcept {
    return wal::record_bytes_max_of(Config::segment_bytes);
}
template <class Config>
struct log_reader_body {
    explicit log_reader_body(typename log_body<Config>::reader from) : at{std::move(from)} {}
    typename log_body<Config>::reader at;
};
template <class Config>
struct log_members_by_pointer {
    using log = basic_log<Config>;
    using fs = typename Config::file_system;
    using observer = typename Config::observer;

    result<log> (*open)(std::string, open_options const&, fs) = &log::template open<Config, fs>;
    result<log> (*open_observed)(std::string, open_options const&, fs,
                                 observer) = &log::template open<Config, fs, observer>;
};

} // namespace detail

template <class Config>
detail::log_members_by_pointer<Config> const basic_log<Config>::members_by_pointer_{};

template <class Config>
template <class C, class Fs, class Observer>
result<basic_log<Config>> basic_log<Config>::open(std::string directory, open_options const& options, Fs fs,
                                                  Observer told) {
    static_assert(std::convertible_to<Fs, typename Config::file_system>,
                  "keel: open() was given a file system of another type than the log's configuration has");
    static_assert(std::convertible_to<Observer, typename Config::observer>,
                  "keel: open() was given an observer of another type than the log's configuration has");
    KEEL_TRY_LET(here, body::open(std::move(directory), options, std::move(fs), std::move(told)));
    return basic_log{std::move(here)};
}
template <class Config>
template <class C, class Fs>
result<basic_log<Config>> basic_log<Config>::open(std::string directory, open_options const& options, Fs fs) {
    using observer = typename Config::observer;
    if constexpr (std::default_initializable<observer>)
        return open(std::move(directory), options, std::move(fs), observer{});
    else return failure(errc::invalid_argument, "this log's observer cannot be made by default: pass one to open()");
}
template <class Config>
result<basic_log<Config>> basic_log<Config>::open(std::string directory, open_options const& options) {
    return open(std::move(directory), options, typename Config::file_system{});
}
template <class Config>
basic_log<Config>::basic_log(std::unique_ptr<body> of) noexcept : body_{std::move(of)} {}
template <class Config>
basic_log<Config>::basic_log(basic_log&& other) noexcept = default;
template <class Config>
basic_log<Config>& basic_log<Config>::operator=(basic_log&& other) noexcept = default;
template <class Config>
basic_log<Config>::~basic_log() = default;

template <class Config>
result<lsn> basic_log<Config>::append(slice record) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->append(record.bytes());
}
template <class Config>
result<lsn> basic_log<Config>::append(slice record, durable_t) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->kept(body_->append(record.bytes()));
}
template <class Config>
result<lsn> basic_log<Config>::append_batch(std::span<byte_view const> records) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->append_batch(records);
}
template <class Config>
result<void> basic_log<Config>::truncate_before(lsn upto) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->truncate_before(upto);
}
template <class Config>
result<void> basic_log<Config>::sync() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->sync();
}
template <class Config>
result<void> basic_log<Config>::accept_loss() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->accept_loss();
}
template <class Config>
result<void> basic_log<Config>::resume() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->resume();
}
template <class Config>
result<void> basic_log<Config>::close() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->close();
}

template <class Config>
lsn basic_log<Config>::first_lsn() const {
    return body_ ? body_->first_lsn() : lsn{};
}
template <class Config>
lsn basic_log<Config>::last_lsn() const noexcept {
    return body_ ? body_->last_lsn() : lsn{};
}
template <class Config>
lsn basic_log<Config>::durable_lsn() const {
    return body_ ? body_->durable_lsn() : lsn{};
}
template <class Config>
engine_state basic_log<Config>::state() const {
    return body_ ? body_->state() : engine_state::closed;
}
template <class Config>
std::string basic_log<Config>::state_reason() const {
    return body_ ? body_->state_reason() : wal::why_closed(nullptr).value().message;
}
template <class Config>
recovery_report const& basic_log<Config>::recovery() const noexcept {
    static recovery_report const none{};
    return body_ ? body_->recovery() : none;
}
template <class Config>
void basic_log<Config>::housekeep(bool quiet) {
    if (body_) body_->housekeep(quiet);
}
template <class Config>
void basic_log<Config>::abandon() noexcept {
    if (body_) body_->abandon();
}

template <class Config>
basic_log<Config>::reader::reader(std::unique_ptr<body> of) noexcept : body_{std::move(of)} {}
template <class Config>
basic_log<Config>::reader::reader(reader&& other) noexcept = default;
template <class Config>
auto basic_log<Config>::reader::operator=(reader&& other) noexcept -> reader& = default;
template <class Config>
basic_log<Config>::reader::~reader() = default;

template <class Config>
result<std::optional<log_record>> basic_log<Config>::reader::next() {
    if (!body_) return wal::why_closed(nullptr);
    return body_->at.next();
}
template <class Config>
result<std::optional<log_record>> basic_log<Config>::reader::next(std::chrono::nanoseconds patience) {
    if (!body_) return wal::why_closed(nullptr);
    return body_->at.next(patience);
}
template <class Config>
lsn basic_log<Config>::reader::position() const noexcept {
    return body_ ? body_->at.position() : lsn{};
}
template <class Config>
auto basic_log<Config>::read_from(lsn from) const -> reader {
    if (!body_) return reader{nullptr};
    return reader{std::make_unique<detail::log_reader_body<Config>>(body_->read_from(from))};
}

} // namespace keel::inline v0

#endif
