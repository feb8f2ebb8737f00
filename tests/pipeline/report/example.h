// The example results that the tests of the report share.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>

namespace moextract {

inline nlohmann::json example_results() {
  return nlohmann::json::parse(std::ifstream(MOEXTRACT_EXAMPLE_RESULTS));
}

/// The smallest file that is one.
inline nlohmann::json empty_results() {
  return {{"format", "moextract-results"}, {"format_version", 1}};
}

}  // namespace moextract
