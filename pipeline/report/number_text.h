// Numbers as people read them: G and M, percent, thousands, durations. Unknown is "-" everywhere.
#pragma once

#include <span>
#include <string>

#include "report/results.h"

namespace moextract {

/// "1,500"; "-" for nothing.
std::string count_text(Count count);

/// With `decimals` digits after the point; "-" for nothing.
std::string fixed_text(Number value, int decimals);

/// 0.9714 -> "97.1 %"; "-" for nothing.
std::string percent_text(Number share, int decimals = 1);

/// 1.2149 -> "1.21x"; "-" for nothing.
std::string times_text(Number factor);

/// Images per second: "212.4", "8,123"; "-" for nothing.
std::string rate_text(Number rate);

/// Four digits or so for a value of any size: "0.0123", "45.21", "1.23e+07".
std::string short_text(Number value);

/// 12.34 -> "12.3 s", 252 -> "4 min 12 s", 3780 -> "1 h 03 min"; "-" for nothing.
std::string duration_text(Number seconds);

/// One unit for a whole column, so that its numbers can be compared by eye.
struct Unit {
  double scale = 1;
  std::string prefix;  ///< "G", "M", "k" or ""
  int decimals = 0;

  std::string text(Number value) const;  ///< without the prefix
  std::string with_prefix(Number value) const;
};

/// The unit in which the largest value reads best.
Unit unit_for(std::span<const Number> values);
Unit unit_for(Number value);

}  // namespace moextract
