// Centroids as the cluster stage left them, for the routers made of them.
#pragma once

#include <cstdint>
#include <filesystem>

#include "moe/centroids.h"

namespace moextract::stages {

/// Of one layer with `k` clusters, with the prices of balanced k-means and the map of the tap where there are such.
/// Throws UserError (input) naming the file if it is not of the cluster stage or holds another number of clusters.
moe::Centroids load_centroids(const std::filesystem::path& folder, std::int64_t layer, std::int64_t k);

}  // namespace moextract::stages
