// SPDX-License-Identifier: BSL-1.0
// Any line: a record or an error that says what was expected and where. A record printed and read again is the same record.
#include <keel/format/text.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    using namespace keel::format;
    std::string const line(data, data + size);
    auto const read = parse(line);
    if (!read) {
        require(read.error().message.starts_with("expected ") && read.error().offset <= size);
        return 0;
    }
    auto const text = print(read->view());
    auto const again = parse(text);
    require(again.has_value() && *again == *read);
    require(print(again->view()) == text);
    return 0;
}
