// What must hold between the files of an artefact, beside their hashes.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moextract::stages {

/// Reads the artefact's files and compares them with each other and with the counts in its manifest; returns what does
/// not fit, one line each. Shards: consecutive images, and the rows that were counted. Clusters: a label for each row,
/// and sizes that are counts of the labels. Models: tensors that make a network. Evaluations: counts that are possible.
std::vector<std::string> broken_invariants(const std::filesystem::path& folder, const nlohmann::json& manifest);

}  // namespace moextract::stages
