// A YAML file as a tree of nodes; the only headers that show yaml-cpp are this one, yaml_documents.h and field_value.h.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace moextract::config {

/// Reads a file that must hold one YAML document: keys and values. Throws UserError (config), with line and column
/// where there is one: no such file, a folder, empty, not UTF-8, not YAML, several documents, not a map.
YAML::Node load_yaml_file(const std::filesystem::path& file);

/// Offset of the first byte that is not UTF-8 text (control characters count as such), or npos.
std::size_t first_non_text_byte(std::string_view text);

/// "configs/a.yaml:12:5"; the file alone if the mark says nothing.
std::string position(const std::filesystem::path& file, const YAML::Mark& mark);

}  // namespace moextract::config
