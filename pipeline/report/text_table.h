// The plain-text table printed at the end of a run.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moextract {

/// No line of render_table's result is longer.
inline constexpr int kTextTableWidth = 120;

/// The headline, the table of variants, the table of layers and the time, as ASCII text that ends with a newline.
/// `results` is described in report/results.h; errors as parse_results.
std::string render_table(const nlohmann::json& results);

}  // namespace moextract
