// JSON from files, which anybody may have written: with a bound on how deeply it is nested. The library parses any
// depth, but copies, compares and prints by recursion, and a few kilobytes of brackets would overflow the stack.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace moextract {

/// The value, or a discarded one (is_discarded()) if `text` is not JSON or is nested deeper than 64 levels.
nlohmann::json parse_json(std::string_view text);

}  // namespace moextract
