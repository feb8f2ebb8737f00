// What two settings trees differ in, in words.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moextract::run {

/// One text a leaf that differs, "cluster.k (8 there, 16 now)", by the leaf's name; "nothing" for a missing one.
std::vector<std::string> json_differences(const nlohmann::json& there, const nlohmann::json& now);

}  // namespace moextract::run
