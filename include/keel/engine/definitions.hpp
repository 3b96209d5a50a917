// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_DEFINITIONS_HPP
#define KEEL_ENGINE_DEFINITIONS_HPP

// The definitions of the functions that store.hpp declares. Each call is passed on to the implementation (engine/engine_body.hpp).

#include <keel/config.hpp>
#include <keel/engine/backoff.hpp>
#include <keel/engine/engine_body.hpp>
#include <keel/engine/ingestion.hpp>
#include <keel/engine/store_walk.hpp>
#include <keel/engine/transaction_body.hpp>
#include <keel/store.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0 {

namespace detail {

template <class Config>
constexpr std::uint64_t key_bytes_max_of() noexcept {
    return format::key_bytes_max;
}
template <class Config>
constexpr std::uint64_t record_bytes_max_of() noexcept {
    return std::min(wal::record_bytes_max_of(Config::segment_bytes), format::record_bytes_max);
}

// ---- a scan's steps ---------------------------------------------------------------------------------------------------------

template <class Config>
struct walk_body {
    store_walk<reading_config<Config>> all;
};
template <class Config>
[[nodiscard]] walk<Config> walk_with(store_walk<reading_config<Config>> all) {
    using body = walk_body<Config>;
    return walk<Config>{typename walk<Config>::handle{new body{std::move(all)}, [](body* done) { delete done; }}};
}
/// The walk of a store object that was moved from: it has no keys, and its status() is `closed`.
template <class Config>
[[nodiscard]] store_walk<reading_config<Config>> nothing_to_walk() {
    using reading = reading_config<Config>;
    return store_walk<reading>{range_walk<reading>{std::shared_ptr<wal::store_lifetime const>{}}};
}

template <class Config>
[[gnu::always_inline]] inline void walk<Config>::look() noexcept {
    valid_ = body_ && body_->all.valid();
    if (!valid_) return;
    key_ = &body_->all.key();
    value_ = &body_->all.value();
}
template <class Config>
void walk<Config>::start() {
    if (body_) body_->all.start();
    look();
}
template <class Config>
void walk<Config>::seek(slice key) {
    if (body_) body_->all.seek(key.text());
    look();
}
template <class Config>
void walk<Config>::step() {
    if (body_) body_->all.step();
    look();
}
template <class Config>
result<void> walk<Config>::status() const {
    if (!body_) return wal::why_closed(nullptr);
    return body_->all.status();
}
template <class Config>
std::vector<key_gap> walk<Config>::gaps() const {
    if (!body_) return {};
    return body_->all.gaps();
}

// ---- members that an explicit instantiation leaves out: taking their addresses instantiates them ------------------------------

template <class Config>
struct members_by_pointer {
    using store = basic_engine<Config>;
    using fs = typename Config::file_system;
    using observer = typename Config::observer;
    using steps = walk<Config>;

    result<store> (*open)(std::string, open_options const&, fs) = &store::template open<Config, fs>;
    result<store> (*open_observed)(std::string, open_options const&, fs,
                                   observer) = &store::template open<Config, fs, observer>;
    void (steps::*start)() = &steps::start;
    void (steps::*seek)(slice) = &steps::seek;
    void (steps::*step)() = &steps::step;
    result<void> (steps::*status)() const = &steps::status;
    std::vector<key_gap> (steps::*gaps)() const = &steps::gaps;
};

} // namespace detail

template <class Config>
detail::members_by_pointer<Config> const basic_engine<Config>::members_by_pointer_{};

// ---- opening ----------------------------------------------------------------------------------------------------------------

template <class Config>
template <class C, class Fs, class Observer>
result<basic_engine<Config>> basic_engine<Config>::open(std::string directory, open_options const& options, Fs fs,
                                                        Observer told) {
    static_assert(std::convertible_to<Fs, typename Config::file_system>,
                  "keel: open() was given a file system of another type than the store's configuration has");
    static_assert(std::convertible_to<Observer, typename Config::observer>,
                  "keel: open() was given an observer of another type than the store's configuration has");
    KEEL_TRY_LET(here, body::open(directory, options, std::move(fs), std::move(told)));
    return basic_engine{std::move(here)};
}
template <class Config>
template <class C, class Fs>
result<basic_engine<Config>> basic_engine<Config>::open(std::string directory, open_options const& options, Fs fs) {
    using observer = typename Config::observer;
    if constexpr (std::default_initializable<observer>)
        return open(std::move(directory), options, std::move(fs), observer{});
    else return failure(errc::invalid_argument, "this store's observer cannot be made by default: pass one to open()");
}
template <class Config>
result<basic_engine<Config>> basic_engine<Config>::open(std::string directory, open_options const& options) {
    return open(std::move(directory), options, typename Config::file_system{});
}
template <class Config>
basic_engine<Config>::basic_engine(std::unique_ptr<body> of) noexcept : body_{std::move(of)} {}
template <class Config>
basic_engine<Config>::basic_engine(basic_engine&& other) noexcept : body_{std::move(other.body_)} {}
template <class Config>
basic_engine<Config>& basic_engine<Config>::operator=(basic_engine&& other) noexcept {
    body_ = std::move(other.body_);
    return *this;
}
template <class Config>
basic_engine<Config>::~basic_engine() = default;

// ---- calls ------------------------------------------------------------------------------------------------------------------

template <class Config>
result<lsn> basic_engine<Config>::put(slice key, slice value) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->put(key.text(), value.text());
}
template <class Config>
result<lsn> basic_engine<Config>::erase(slice key) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->erase(key.text());
}
template <class Config>
result<lsn> basic_engine<Config>::write(write_batch const& batch) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->write(batch);
}
template <class Config>
result<lsn> basic_engine<Config>::put(slice key, slice value, durable_t) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->kept(body_->put(key.text(), value.text()));
}
template <class Config>
result<lsn> basic_engine<Config>::erase(slice key, durable_t) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->kept(body_->erase(key.text()));
}
template <class Config>
result<lsn> basic_engine<Config>::write(write_batch const& batch, durable_t) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->kept(body_->write(batch));
}
template <class Config>
result<std::uint64_t> basic_engine<Config>::erase(range const& which) {
    auto all = this->keys(which);
    write_batch part;
    std::uint64_t part_bytes = 0; // bytes that the part takes in the log
    std::uint64_t done = 0;
    auto const commit_part = [&]() -> result<void> {
        if (part.empty()) return {};
        auto const count = part.size();
        KEEL_TRY(write(part));
        done += count;
        part.clear();
        part_bytes = 0;
        return {};
    };
    for (auto const key : all) {
        auto const bytes = format::frame_bytes(key.size());
        if (part_bytes + bytes > body::erase_batch_bytes) KEEL_TRY(commit_part());
        part.erase(key);
        part_bytes += bytes;
    }
    KEEL_TRY(all.status());
    KEEL_TRY(commit_part());
    return done;
}

template <class Config>
result<std::optional<std::string>> basic_engine<Config>::get(slice key) const {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->get(key.text());
}
template <class Config>
result<std::optional<std::string>> basic_engine<Config>::get(slice key, keel::snapshot const& as_of) const {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->get(key.text(), as_of);
}
template <class Config>
snapshot basic_engine<Config>::snapshot() const {
    return body_ ? body_->snapshot() : keel::snapshot{nullptr, nullptr, {}};
}
template <class Config>
result<std::vector<std::optional<std::string>>> basic_engine<Config>::multi_get(
    std::span<std::string_view const> keys) const {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->multi_get(keys);
}
template <class Config>
result<std::uint64_t> basic_engine<Config>::approximate_size(range const& which) const {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->approximate_size(which);
}
template <class Config>
result<recovery_report> basic_engine<Config>::verify(verify_depth how) const {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->verify(how);
}
template <class Config>
auto basic_engine<Config>::begin() const -> transaction {
    if (!body_) return transaction{nullptr};
    return transaction{std::make_unique<detail::transaction_body<Config>>(body_->begin())};
}
template <class Config>
result<void> basic_engine<Config>::compact() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->compact();
}
template <class Config>
result<std::uint64_t> basic_engine<Config>::repair_tables() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->repair_tables();
}
template <class Config>
storage_report basic_engine<Config>::storage() const {
    if (!body_) [[unlikely]]
        return {};
    return body_->storage();
}
template <class Config>
result<void> basic_engine<Config>::sync() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->sync();
}
template <class Config>
result<void> basic_engine<Config>::accept_loss() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->accept_loss();
}
template <class Config>
result<void> basic_engine<Config>::resume() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->resume();
}
template <class Config>
result<void> basic_engine<Config>::close() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->close();
}

template <class Config>
lsn basic_engine<Config>::last_lsn() const noexcept {
    return body_ ? body_->last_lsn() : lsn{};
}
template <class Config>
lsn basic_engine<Config>::durable_lsn() const {
    return body_ ? body_->durable_lsn() : lsn{};
}
template <class Config>
engine_state basic_engine<Config>::state() const {
    return body_ ? body_->state() : engine_state::closed;
}
template <class Config>
std::string basic_engine<Config>::state_reason() const {
    return body_ ? body_->state_reason() : wal::why_closed(nullptr).value().message;
}
template <class Config>
recovery_report const& basic_engine<Config>::recovery() const noexcept {
    static recovery_report const none{};
    return body_ ? body_->recovery() : none;
}
template <class Config>
void basic_engine<Config>::housekeep(bool quiet) {
    if (body_) body_->housekeep(quiet);
}
template <class Config>
void basic_engine<Config>::abandon() noexcept {
    if (body_) body_->abandon();
}

template <class Config>
detail::walk<Config> basic_engine<Config>::walk_over(range which, keel::snapshot const* as_of, on_damage how) const {
    return detail::walk_with<Config>(body_ ? body_->walk_over(std::move(which), as_of, how)
                                           : detail::nothing_to_walk<Config>());
}
template <class Config>
detail::walk<Config> basic_engine<Config>::no_walk(error why) const {
    return detail::walk_with<Config>(body_ ? body_->no_walk(std::move(why)) : detail::nothing_to_walk<Config>());
}
template <class Config>
auto basic_engine<Config>::begin_ingest() -> result<ingest_handle> {
    using call = detail::ingestion<Config>;
    if (!body_) return wal::why_closed(nullptr);
    KEEL_TRY_LET(all, body_->begin_ingest());
    return ingest_handle{all.release(), [](call* done) { delete done; }};
}
template <class Config>
result<void> basic_engine<Config>::add_sorted(detail::ingestion<Config>& to, slice key, slice value) {
    return to.add(key.text(), value.text());
}
template <class Config>
result<lsn> basic_engine<Config>::finish_ingest(detail::ingestion<Config>& all) {
    return body_->finish_ingest(all);
}
template <class Config>
result<void> basic_engine<Config>::check_open() const {
    if (!body_) return wal::why_closed(nullptr);
    return body_->check_open();
}
template <class Config>
void basic_engine<Config>::pause_before_run(transact_options const& how, unsigned runs, lsn conflict) {
    detail::pause_before_run(how, runs, conflict);
}

// ---- transactions -----------------------------------------------------------------------------------------------------------

template <class Config>
basic_engine<Config>::transaction::transaction(std::unique_ptr<body> of) noexcept : body_{std::move(of)} {}
template <class Config>
basic_engine<Config>::transaction::transaction(transaction&& other) noexcept = default;
template <class Config>
auto basic_engine<Config>::transaction::operator=(transaction&& other) noexcept -> transaction& = default;
template <class Config>
basic_engine<Config>::transaction::~transaction() = default;

template <class Config>
lsn basic_engine<Config>::transaction::moment() const noexcept {
    return body_ ? body_->moment() : lsn{};
}
template <class Config>
result<std::optional<std::string>> basic_engine<Config>::transaction::get(slice key) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->get(key.text());
}
template <class Config>
result<void> basic_engine<Config>::transaction::put(slice key, slice value) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->put(key.text(), value.text());
}
template <class Config>
result<void> basic_engine<Config>::transaction::erase(slice key) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->erase(key.text());
}
template <class Config>
result<lsn> basic_engine<Config>::transaction::commit() {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->commit();
}
template <class Config>
result<lsn> basic_engine<Config>::transaction::commit(durable_t) {
    if (!body_) [[unlikely]]
        return wal::why_closed(nullptr);
    return body_->commit(durable);
}
template <class Config>
void basic_engine<Config>::transaction::rollback() noexcept {
    if (body_) body_->rollback();
}
template <class Config>
detail::walk<Config> basic_engine<Config>::transaction::walk_over(range which, on_damage how) {
    return detail::walk_with<Config>(body_ ? body_->walk_over(std::move(which), how)
                                           : detail::nothing_to_walk<Config>());
}
template <class Config>
detail::walk<Config> basic_engine<Config>::transaction::no_walk(error why) const {
    return detail::walk_with<Config>(body_ ? body_->no_walk(std::move(why)) : detail::nothing_to_walk<Config>());
}

} // namespace keel::inline v0

#endif
