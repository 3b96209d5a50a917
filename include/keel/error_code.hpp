// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ERROR_CODE_HPP
#define KEEL_ERROR_CODE_HPP

// keel's errors as std::error_code, for programs that pass errors on in that form:
//
//   std::error_code ec = put.error().code;           // category "keel"
//   if (ec == std::errc::no_space_on_device) ...     // the portable conditions match
//
// A std::error_code of 0 means success, so each number is that of errc plus one.

#include <keel/error.hpp>

#include <string>
#include <system_error>
#include <type_traits>

namespace keel::inline v0 {

namespace detail {

class error_category_type final : public std::error_category {
public:
    [[nodiscard]] char const* name() const noexcept override { return "keel"; }
    [[nodiscard]] std::string message(int code) const override { return std::string{name_of(code_of(code))}; }
    [[nodiscard]] std::error_condition default_error_condition(int code) const noexcept override {
        switch (code_of(code)) {
        case errc::io_error: return std::errc::io_error;
        case errc::no_space: return std::errc::no_space_on_device;
        case errc::no_permission: return std::errc::permission_denied;
        case errc::not_found: return std::errc::no_such_file_or_directory;
        case errc::exists: return std::errc::file_exists;
        case errc::locked: return std::errc::resource_unavailable_try_again;
        case errc::too_large: return std::errc::value_too_large;
        case errc::invalid_argument: return std::errc::invalid_argument;
        case errc::read_only: return std::errc::read_only_file_system;
        case errc::cancelled: return std::errc::operation_canceled;
        case errc::out_of_memory: return std::errc::not_enough_memory;
        case errc::unsupported: return std::errc::not_supported;
        default: return {code, *this};
        }
    }

private:
    [[nodiscard]] static errc code_of(int code) noexcept { return static_cast<errc>(code - 1); }
};

} // namespace detail

/// The category of keel's error codes.
[[nodiscard]] inline std::error_category const& error_category() noexcept {
    static detail::error_category_type const category;
    return category;
}
/// The std::error_code of a code. The standard library calls it where an errc is converted.
[[nodiscard]] inline std::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code) + 1, error_category()};
}

} // namespace keel::inline v0

// An errc converts to std::error_code. Doxygen 1.9.4 does not find the scope of a specialization in std, so it skips this one.
/// @cond
template <>
struct std::is_error_code_enum<keel::errc> : std::true_type {};
/// @endcond

#endif
