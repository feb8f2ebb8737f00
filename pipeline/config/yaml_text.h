// Texts as YAML scalars.
#pragma once

#include <string>
#include <string_view>

namespace moextract::config {

/// `text` so that the reader gives it back: plain where that is safe, else in double quotes; "${" is written "$${".
std::string yaml_text(std::string_view text);

}  // namespace moextract::config
