#include "stages/cluster/given_centroids.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "cluster/centroid_grid.h"
#include "core/error.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace fs = std::filesystem;
namespace {

void check_settings(const ClusterParams& params) {
  if (!starts_from_file(params)) {
    if (params.method != ClusterMethod::kmeans || params.centroids.empty()) return;
    fail(ExitCode::config,
         "cluster.centroids: {} is not used, because cluster.init is not given: set cluster.init to given, or leave "
         "the file out",
         params.centroids.string());
  }
  if (params.centroids.empty()) {
    fail(ExitCode::config,
         "cluster.init is given, but cluster.centroids names no file: give one with a tensor {} [{}, width] and so on",
         given_centroids_name(0), params.kmeans.k);
  }
  if (params.tap == ClusterTap::z) {
    fail(ExitCode::config,
         "cluster.init: centroids cannot be given where cluster.tap is z, because how its values are scaled is known "
         "only from the recorded inputs; cluster another tap or start another way");
  }
  if (params.automatic_k != AutomaticK::none) {
    fail(ExitCode::config,
         "cluster.automatic_k: centroids cannot be given (cluster.init), because their number is what is looked for");
  }
  if (params.agreement_seeds > 0) {
    fail(ExitCode::config,
         "cluster.agreement_seeds is {}, but with given centroids (cluster.init) another seed changes nothing: set it "
         "to 0",
         params.agreement_seeds);
  }
}

}  // namespace

std::string given_centroids_name(std::int64_t layer) {
  return fmt::format("centroids.{}", layer);
}

namespace {

store::SafetensorsFile open(const fs::path& path) {
  if (!fs::exists(path)) {
    fail(ExitCode::input,
         "cluster.centroids: {} does not exist. Give the path of a safetensors file (relative paths count from the "
         "configuration file)",
         path.string());
  }
  return store::SafetensorsFile(path);
}

std::vector<float> read_layer(const store::SafetensorsFile& file, std::int64_t layer, std::int64_t k,
                              std::int64_t width) {
  const fs::path& path = file.path();
  const std::string name = given_centroids_name(layer);
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    fail(ExitCode::input,
         "{}: has no tensor {}: k-means needs the first centroids of every layer (cluster.init is given)",
         path.string(), name);
  }
  const store::TensorView& tensor = found->second;
  if (tensor.type != store::TensorType::f32 || tensor.shape != std::vector<std::int64_t>{k, width}) {
    fail(ExitCode::input, "{}: {} is {} [{}], but must be F32 [{}, {}]: cluster.k rows of what cluster.tap says",
         path.string(), name, store::type_name(tensor.type), fmt::join(tensor.shape, ", "), k, width);
  }
  std::vector<float> values(static_cast<std::size_t>(k * width));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::fabs(values[i]) <= cluster::kLargestCentroidValue) continue;
    fail(ExitCode::input, "{}: {}: value {} of centroid {} is {}: it must be finite and at most {} in size",
         path.string(), name, i % static_cast<std::size_t>(width), i / static_cast<std::size_t>(width), values[i],
         cluster::kLargestCentroidValue);
  }
  return values;
}

}  // namespace

std::vector<float> load_given_centroids(const fs::path& path, std::int64_t layer, std::int64_t k, std::int64_t width) {
  return read_layer(open(path), layer, k, width);
}

void check_given_centroids(const ClusterParams& params, std::int64_t layers, std::int64_t width) {
  check_settings(params);
  if (!starts_from_file(params)) return;
  const store::SafetensorsFile file = open(params.centroids);
  for (std::int64_t layer = 0; layer < layers; ++layer) read_layer(file, layer, params.kmeans.k, width);
}

}  // namespace moextract::stages
