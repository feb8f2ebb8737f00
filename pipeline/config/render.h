// The field list as text for people and as JSON for manifests.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "config/field_list.h"

namespace moextract::config {

/// Markdown reference page: one table a section with key, type, default (the current values), bounds, meaning; under it
/// what the names of enumerations mean. Keys that do not affect results carry a mark.
std::string reference_page(const FieldList& fields);
/// Plain text for --help: key, type and default, one sentence. `prefix` "cluster" or "cluster." keeps the keys under
/// cluster, "cluster.k" that key alone.
std::string help_text(const FieldList& fields, std::string_view prefix = "");
/// A YAML file with all values and the sentences as comments; read_yaml() gives the same values back wherever the file
/// stands: input paths are written absolute, output paths as they are.
std::string to_yaml(const FieldList& fields);
/// {"cluster": {"k": 8, ...}, ...}; `only_results`: without runtime-only fields. Numbers as numbers, paths as text.
/// `prefix` as in help_text(); keys keep their full nesting.
nlohmann::json to_json(const FieldList& fields, bool only_results, std::string_view prefix = "");

}  // namespace moextract::config
