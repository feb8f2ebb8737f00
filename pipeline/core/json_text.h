// JSON from files, which anybody may have written: with a bound on how deeply it is nested and on how large its numbers
// are. The library parses any depth, but copies, compares and prints by recursion, and a few kilobytes of brackets
// would overflow the stack. It gives a number with too many digits as a double, whose conversion to an integer is not
// defined.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace moextract {

/// The value, or a discarded one (is_discarded()) if `text` is not JSON, is nested deeper than 64 levels, or
/// holds a number of magnitude 2^63 and more that is no unsigned integer: readers take numbers as 64-bit integers.
nlohmann::json parse_json(std::string_view text);

/// JSON on one line. Bytes that are not UTF-8, as names of files may have, become U+FFFD.
std::string json_text(const nlohmann::json& value);

}  // namespace moextract
