// Numbers as people write them in a configuration: 8, -3, 1e5, 100_000, 0.5.
#pragma once

#include <optional>
#include <string_view>

namespace moextract::config {

/// A whole number, exactly: 1e5, 1.5e3 and 2.0 are whole, 1.5 is not.
struct WholeNumber {
  __int128 value = 0;
  bool too_large = false;  ///< beyond 38 digits; `value` has no meaning
};

/// nullopt if `text` is not a whole number.
std::optional<WholeNumber> parse_whole_number(std::string_view text);
/// nullopt if `text` is not a finite decimal number that a double can hold (not .inf, .nan, 1e999).
std::optional<double> parse_number(std::string_view text);

}  // namespace moextract::config
