// Words for a field's type and bounds, the same in messages, --help and the reference page.
#pragma once

#include <string>

#include "config/field_list.h"

namespace moextract::config {

/// "whole number", "list of texts", "one of shared, separate", ...
std::string type_name(const Field& field);
/// "at least 1", "at most 9", "1 to 9", or "".
std::string bounds_text(const Field& field);
/// What a message expects of one value: "a whole number of at least 1", "a number between 0 and 1 or null", ...
/// For lists it is one element of them.
std::string expected_value(const Field& field);
/// "a whole number between -2147483648 and 2147483647": for values that do not fit the field's C++ type.
std::string expected_value_with_type_limits(const Field& field);
/// What a message expects of a field that holds several values: "a list of whole numbers", or expected_value().
std::string expected_whole_field(const Field& field);
/// The part of a path behind the last dot.
std::string last_name(const std::string& path);
/// The part of a path before the last dot, or "".
std::string parent_path(const std::string& path);
/// True for "cluster.k" under "", "cluster", "cluster." and "cluster.k".
bool is_under(std::string_view path, std::string_view prefix);

}  // namespace moextract::config
