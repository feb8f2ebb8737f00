// YAML and --set into the structs that a FieldList refers to.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "config/field_list.h"

namespace moextract::config {

/// Reads `file` into the fields. Strings and paths may hold ${VAR} and ${VAR:-default}. Relative paths are taken from the
/// config file's folder (output paths from the working folder). Throws UserError (config) of the form
///   configs/a.yaml:12:5: cluster.kk: no such key; did you mean cluster.k?
///   configs/a.yaml:12:5: cluster.k: expected a whole number of at least 1, got 'many'
/// for syntax errors, unknown and duplicate keys, wrong types, values out of bounds, missing required fields, unset
/// variables. `used` (optional) receives the paths of the fields that the file set.
void read_yaml(const std::filesystem::path& file, FieldList& fields, std::vector<std::string>* used = nullptr);

/// Applies "cluster.k=16". Relative paths are taken from the working folder. Messages begin with "--set cluster.k=16:".
void apply_setting(std::string_view setting, FieldList& fields);

/// Checks that all required fields are non-empty after reading and settings. Throws UserError (config).
void check_required(const FieldList& fields, const std::filesystem::path& file);

/// Nearest of `candidates` by edit distance, or "" if none is near.
std::string nearest_name(std::string_view wanted, const std::vector<std::string>& candidates);

}  // namespace moextract::config
