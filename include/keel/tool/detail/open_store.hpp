// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_OPEN_STORE_HPP
#define KEEL_TOOL_DETAIL_OPEN_STORE_HPP

// The store that get, put, erase and scan use, behind virtual functions. So these commands are compiled once, and only the few calls
// below are compiled for each checksum.

#include <keel/engine/batch.hpp>
#include <keel/engine/range.hpp>
#include <keel/error.hpp>
#include <keel/options.hpp>
#include <keel/policy/repair/concept.hpp>
#include <keel/recovery/report.hpp>
#include <keel/tool/detail/engine_of_tool.hpp>
#include <keel/types.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

class open_store {
public:
    using take_row = std::function<bool(std::string_view key, std::string_view value)>;

    open_store() = default;
    open_store(open_store const&) = delete;
    open_store& operator=(open_store const&) = delete;
    virtual ~open_store() = default;

    [[nodiscard]] virtual result<std::optional<std::string>> get(std::string_view key) = 0;
    /// Writes the batch. It survives power loss when the call returns.
    [[nodiscard]] virtual result<lsn> write(write_batch const& batch) = 0;
    /// Calls take(key, value) for each key until it returns false. Returns the gaps, with the keys that could not be read.
    [[nodiscard]] virtual result<std::vector<key_gap>> scan(range which, take_row const& take) = 0;
    [[nodiscard]] virtual recovery_report const& recovery() const = 0;
    [[nodiscard]] virtual result<void> close() = 0;
};

template <class Engine>
class open_engine final : public open_store {
public:
    explicit open_engine(Engine of) : engine_{std::move(of)} {}

    result<std::optional<std::string>> get(std::string_view key) override { return engine_.get(key); }
    result<lsn> write(write_batch const& batch) override { return engine_.write(batch, durable); }
    result<std::vector<key_gap>> scan(range which, take_row const& take) override {
        auto all = engine_.scan(std::move(which), on_damage::skip);
        for (auto&& [key, value] : all)
            if (!take(key, value)) return all.gaps();
        KEEL_TRY(all.status());
        return all.gaps();
    }
    recovery_report const& recovery() const override { return engine_.recovery(); }
    result<void> close() override { return engine_.close(); }

private:
    Engine engine_;
};

enum class access : std::uint8_t { read, write };

/// Opens an existing store. To read: even while another process writes to it. To write: not if records are lost, because a repair must
/// first decide about them.
template <class Config>
[[nodiscard]] result<std::unique_ptr<open_store>> open_to(access how, std::string const& directory,
                                                          typename Config::file_system const& fs) {
    open_options options;
    options.create_if_missing = false;
    options.background_thread = false;
    options.read_only = how == access::read;
    if (how == access::write) options.repair = repair_strategy::refuse;
    auto opened = engine_of_tool<Config>::open(directory, options, fs);
    if (!opened) {
        auto why = std::move(opened).error();
        if (why.code == errc::not_found) why.message = "there is no store in this folder";
        if (why.code == errc::locked) why.message += "; close the program that has the store open, then try again";
        return failure(std::move(why));
    }
    return std::make_unique<open_engine<engine_of_tool<Config>>>(std::move(*opened));
}

} // namespace keel::inline v0::tool::detail

#endif
