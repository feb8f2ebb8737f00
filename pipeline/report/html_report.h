// The report: one self-contained HTML page made from the results of a run.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moextract {

/// The page as text. It loads nothing, works without JavaScript, and leaves out the parts that `results` does not have.
/// `results` is described in report/results.h; errors as parse_results.
std::string render_html(const nlohmann::json& results);

}  // namespace moextract
