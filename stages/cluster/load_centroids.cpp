#include "stages/cluster/load_centroids.h"

#include <string>

#include "core/error.h"
#include "model/weights.h"
#include "stages/cluster/layer_clusters.h"

namespace moextract::stages {

moe::Centroids load_centroids(const std::filesystem::path& folder, std::int64_t layer, std::int64_t k) {
  const std::filesystem::path path = layer_clusters_path(folder, layer);
  const model::WeightsFile file = model::load_weights(path);
  const auto tensor = [&](const std::string& name) {
    const auto found = file.tensors.find(name);
    return found == file.tensors.end() ? at::Tensor() : found->second;
  };
  moe::Centroids centroids{.rows = tensor("centroids"),
                           .prices = tensor("prices"),
                           .map_weight = tensor("map.weight"),
                           .map_bias = tensor("map.bias")};
  bool whole = centroids.rows.defined() && centroids.rows.dim() == 2 && centroids.rows.size(0) == k;
  if (whole && centroids.map_weight.defined()) {
    whole = centroids.map_weight.dim() == 2 && centroids.map_weight.size(0) == centroids.rows.size(1) &&
            centroids.map_bias.defined() && centroids.map_bias.dim() == 1 &&
            centroids.map_bias.size(0) == centroids.rows.size(1);
  }
  if (!whole) {
    fail(ExitCode::input, "{}: does not hold the centroids of {} clusters: run `moextract cluster` again",
         path.string(), k);
  }
  return centroids;
}

}  // namespace moextract::stages
