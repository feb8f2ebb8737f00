#include "stages/cluster/layer_clusters.h"

#include <cstring>
#include <map>
#include <span>
#include <string>

#include "cluster/hdbscan_export.h"
#include "core/error.h"
#include "core/file.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kSummaryKey = "moextract.clusters";
constexpr const char* kTreeKey = "moextract.hdbscan";

template <class T>
store::TensorView view_of(const std::vector<T>& values, std::vector<std::int64_t> shape, store::TensorType type) {
  store::TensorView view;
  view.type = type;
  view.shape = std::move(shape);
  view.data = std::as_bytes(std::span(values));
  return view;
}

fs::path beside(const fs::path& folder, std::int64_t layer, const char* ending) {
  return folder / fmt::format("layer-{:03}.{}", layer, ending);
}

void save_iterations(const fs::path& path, std::int64_t layer, const std::vector<cluster::KMeansIteration>& history) {
  std::string lines;
  for (const cluster::KMeansIteration& it : history) {
    lines += json{{"layer", layer},    {"iteration", it.iteration}, {"inertia", it.inertia}, {"shift", it.shift},
                  {"moved", it.moved}, {"smallest", it.smallest},   {"largest", it.largest}, {"seconds", it.seconds}}
                 .dump() +
             "\n";
  }
  write_file_atomically(path, lines);
}

void save_tree(const fs::path& folder, std::int64_t layer, const cluster::hdbscan::Model& model) {
  const std::vector<cluster::hdbscan::Column> columns = cluster::hdbscan::columns(model);
  std::map<std::string, store::TensorView> tensors;
  for (const cluster::hdbscan::Column& column : columns) {
    store::TensorView view;
    view.type = column.kind == "F64"   ? store::TensorType::f64
                : column.kind == "F32" ? store::TensorType::f32
                                       : store::TensorType::i64;
    view.shape = column.shape;
    view.data = column.data;
    tensors.emplace(column.name, view);
  }
  const std::string facts = cluster::hdbscan::to_json(model);
  store::write_safetensors(beside(folder, layer, "hdbscan.safetensors"), tensors,
                           {{kTreeKey, json{{"layer", layer}, {"rows", model.rows()}}.dump()}});
  write_file_atomically(beside(folder, layer, "hdbscan.json"), facts + "\n");
}

}  // namespace

fs::path layer_clusters_path(const fs::path& folder, std::int64_t layer) {
  return beside(folder, layer, "safetensors");
}

void save_layer_clusters(const fs::path& folder, std::int64_t layer, const LayerFit& fit) {
  if (!fit.history.empty()) save_iterations(beside(folder, layer, "iterations.jsonl"), layer, fit.history);
  if (fit.tree) save_tree(folder, layer, *fit.tree);
  const auto rows = static_cast<std::int64_t>(fit.labels.size());
  std::map<std::string, store::TensorView> tensors{
      {"centroids", view_of(fit.centroids, {fit.k, fit.dimension}, store::TensorType::f32)},
      {"labels", view_of(fit.labels, {rows}, store::TensorType::i32)},
      {"sizes", view_of(fit.sizes, {fit.k}, store::TensorType::i64)}};
  if (!fit.prices.empty()) tensors.emplace("prices", view_of(fit.prices, {fit.k}, store::TensorType::f64));
  if (!fit.probabilities.empty())
    tensors.emplace("probabilities", view_of(fit.probabilities, {rows}, store::TensorType::f32));
  if (fit.map.outputs > 0) {
    tensors.emplace("map.weight", view_of(fit.map.weight, {fit.map.outputs, fit.map.inputs}, store::TensorType::f32));
    tensors.emplace("map.bias", view_of(fit.map.bias, {fit.map.outputs}, store::TensorType::f32));
  }
  store::write_safetensors(layer_clusters_path(folder, layer), tensors,
                           store::with_checksum(tensors, {{kSummaryKey, fit.summary.dump()}}));
}

LayerClusters load_layer_clusters(const fs::path& folder, std::int64_t layer) {
  const fs::path path = layer_clusters_path(folder, layer);
  const store::SafetensorsFile file(path);
  LayerClusters clusters;
  const auto labels = file.tensors().find("labels");
  const auto summary = file.metadata().find(kSummaryKey);
  if (labels == file.tensors().end() || labels->second.type != store::TensorType::i32 ||
      summary == file.metadata().end()) {
    fail(ExitCode::input, "{}: is not a file of the cluster stage: run `moextract cluster` again", path.string());
  }
  clusters.labels.resize(labels->second.data.size() / sizeof(std::int32_t));
  if (!clusters.labels.empty())
    std::memcpy(clusters.labels.data(), labels->second.data.data(), labels->second.data.size());
  clusters.summary = json::parse(summary->second, nullptr, false);
  if (clusters.summary.is_discarded() || !clusters.summary.is_object())
    fail(ExitCode::input, "{}: its metadata is damaged: run `moextract cluster` again", path.string());
  clusters.k = clusters.summary.value("k", std::int64_t{0});
  // Only HDBSCAN leaves rows out.
  const std::int32_t least = clusters.summary.value("noise", std::string()) == "dropped" ? -1 : 0;
  for (const std::int32_t label : clusters.labels) {
    if (label < least || label >= clusters.k)
      fail(ExitCode::input, "{}: holds a label outside of its clusters: run `moextract cluster` again", path.string());
  }
  return clusters;
}

}  // namespace moextract::stages
