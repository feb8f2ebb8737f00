// The centroids that k-means starts from, where the user gives them as a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "stages/cluster/cluster_params.h"

namespace moextract::stages {

/// The tensor of one layer: "centroids.LAYER", [k, width] float32.
std::string given_centroids_name(std::int64_t layer);

/// Throws UserError (config) where starts_from_file() and other settings do not go together, or k-means is given a file
/// that it does not use; (input) naming file and tensor where it is not as load_given_centroids() wants it. Reads the
/// whole file.
void check_given_centroids(const ClusterParams& params, std::int64_t layers, std::int64_t width);

/// Throws UserError (input) naming file and tensor: missing, of another type or shape, values that are not finite or
/// too large for k-means.
std::vector<float> load_given_centroids(const std::filesystem::path& path, std::int64_t layer, std::int64_t k,
                                        std::int64_t width);

}  // namespace moextract::stages
