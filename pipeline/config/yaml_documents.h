// The documents of a YAML text, read so that any text comes to an end.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <vector>

namespace moextract::config {

/// Throws YAML::Exception, with a mark, for a text that is not YAML.
std::vector<YAML::Node> load_documents(const std::string& text);

}  // namespace moextract::config
