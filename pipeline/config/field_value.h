// One YAML node into the value a field refers to.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <functional>
#include <string>

#include "config/field_list.h"

namespace moextract::config {

/// Where nodes come from: what messages begin with, and what relative paths are relative to.
struct ValueSource {
  /// The beginning of a message about `key`, found at `mark`: "configs/a.yaml:12:5: cluster.k: ".
  std::function<std::string(const YAML::Mark& mark, const std::string& key)> prefix;
  std::filesystem::path folder;
};

/// Checks and converts `node`; `key_mark` stands in for the place of a missing value. Sets field.given. Throws
/// UserError (config), the field then keeps its old value.
void assign(Field& field, const YAML::Node& node, const YAML::Mark& key_mark, const ValueSource& source);

/// The text of a scalar node with its variables put in. Throws UserError (config).
std::string scalar_text(const YAML::Node& node, const YAML::Mark& key_mark, const std::string& key,
                        const ValueSource& source);

/// What a node is, for messages: 'many', a list, a section, nothing.
std::string found_text(const YAML::Node& node);

}  // namespace moextract::config
