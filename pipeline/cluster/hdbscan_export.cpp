#include "cluster/hdbscan_export.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

namespace moextract::cluster::hdbscan {
namespace {

static_assert(std::endian::native == std::endian::little, "columns are written as they lie in memory");

template <class T>
Column column(std::string name, const std::vector<T>& values, std::int64_t width = 0) {
  static_assert(std::is_same_v<T, double> || std::is_same_v<T, std::int64_t> || std::is_same_v<T, float>);
  Column made;
  made.name = std::move(name);
  made.kind = std::is_same_v<T, double> ? "F64" : std::is_same_v<T, float> ? "F32" : "I64";
  made.shape = {static_cast<std::int64_t>(values.size())};
  if (width > 0) made.shape = {static_cast<std::int64_t>(values.size()) / width, width};
  made.data.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(made.data.data(), values.data(), made.data.size());
  return made;
}

// Column of one member of each element.
template <class T, class From, class Get>
Column column_of(std::string name, const std::vector<From>& elements, Get get) {
  std::vector<T> values;
  values.reserve(elements.size());
  for (const From& element : elements) values.push_back(static_cast<T>(get(element)));
  return column(std::move(name), values);
}

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

const char* name_of(Selection selection) {
  return selection == Selection::eom ? "eom" : "leaf";
}
const char* name_of(Metric metric) {
  return metric == Metric::cosine ? "cosine" : "euclidean";
}
const char* name_of(NoisePolicy policy) {
  return policy == NoisePolicy::dropped            ? "dropped"
         : policy == NoisePolicy::nearest_centroid ? "nearest_centroid"
                                                   : "own_cluster";
}

}  // namespace

std::vector<Column> columns(const Model& model) {
  using I = std::int64_t;
  std::vector<Column> all;
  const auto& tree = model.spanning_tree;
  all.push_back(column_of<I>("spanning_tree.low", tree, [](const Edge& edge) { return edge.low; }));
  all.push_back(column_of<I>("spanning_tree.high", tree, [](const Edge& edge) { return edge.high; }));
  all.push_back(column_of<double>("spanning_tree.weight", tree, [](const Edge& edge) { return edge.weight; }));
  all.push_back(column_of<I>("linkage.left", model.linkage, [](const Merge& merge) { return merge.left; }));
  all.push_back(column_of<I>("linkage.right", model.linkage, [](const Merge& merge) { return merge.right; }));
  all.push_back(
      column_of<double>("linkage.distance", model.linkage, [](const Merge& merge) { return merge.distance; }));
  all.push_back(column_of<I>("linkage.size", model.linkage, [](const Merge& merge) { return merge.size; }));
  const auto& condensed = model.condensed;
  all.push_back(column_of<I>("condensed.parent", condensed, [](const CondensedEdge& edge) { return edge.parent; }));
  all.push_back(column_of<I>("condensed.child", condensed, [](const CondensedEdge& edge) { return edge.child; }));
  all.push_back(
      column_of<double>("condensed.lambda", condensed, [](const CondensedEdge& edge) { return edge.lambda; }));
  all.push_back(column_of<I>("condensed.size", condensed, [](const CondensedEdge& edge) { return edge.size; }));
  all.push_back(column("clusters.node", model.clusters.nodes));
  all.push_back(column("clusters.stability", model.clusters.stabilities));
  all.push_back(column("clusters.persistence", model.clusters.persistences));
  all.push_back(column("clusters.size", model.clusters.sizes));
  all.push_back(column("clusters.centroid", model.centroids, model.dimension));
  all.push_back(column("sample.number", model.numbers));
  all.push_back(column_of<I>("sample.label", model.clusters.labels, [](std::int32_t label) { return label; }));
  all.push_back(column("sample.probability", model.clusters.probabilities));
  all.push_back(column("sample.outlier_score", model.outlier_scores));
  all.push_back(column("sample.core_distance", model.core));
  if (model.pca.components > 0) {
    all.push_back(column("pca.mean", model.pca.mean));
    all.push_back(column("pca.axes", model.pca.axes, model.pca.dimension));
    all.push_back(column("pca.variances", model.pca.variances));
  }
  return all;
}

std::string to_json(const Model& model) {
  const Params& params = model.params;
  std::int64_t noise = 0;
  for (const std::int32_t label : model.clusters.labels) noise += label < 0;
  std::string json = fmt::format(
      R"({{"method":"hdbscan","metric":"{}","min_cluster_size":{},"min_samples":{},"selection":"{}",)"
      R"("cluster_selection_epsilon":{},"alpha":{},"allow_single_cluster":{},"max_cluster_size":{},)"
      R"("pca_components":{},"pca_variance_share":{},"seed":{},"noise_policy":"{}",)"
      R"("rows":{},"sampled_rows":{},"noise_rows":{},"clusters":[)",
      name_of(params.metric), params.min_cluster_size, model.min_samples, name_of(params.selection),
      number(params.cluster_selection_epsilon), number(params.alpha), params.allow_single_cluster,
      params.max_cluster_size, params.pca_components,
      [&] {
        double kept = 0;
        for (const double variance : model.pca.variances) kept += variance;
        return model.pca.components > 0 && model.pca.total_variance > 0 ? number(kept / model.pca.total_variance)
                                                                        : std::string("null");
      }(),
      params.seed, name_of(params.noise), model.rows_in_set, model.rows(), noise);
  for (std::size_t c = 0; c < model.clusters.nodes.size(); ++c) {
    json += fmt::format(R"({}{{"label":{},"node":{},"rows":{},"stability":{},"persistence":{}}})", c ? "," : "", c,
                        model.clusters.nodes[c], model.clusters.sizes[c], number(model.clusters.stabilities[c]),
                        number(model.clusters.persistences[c]));
  }
  json += R"(],"condensed_tree":[)";
  const std::int64_t n = model.rows();
  std::vector<std::int32_t> chosen(model.clusters.largest_lambda.size(), -1);
  for (std::size_t c = 0; c < model.clusters.nodes.size(); ++c) {
    chosen[static_cast<std::size_t>(model.clusters.nodes[c] - n)] = static_cast<std::int32_t>(c);
  }
  const auto node = [&](std::int64_t id, const std::string& parent, double birth, std::int64_t size) {
    const auto at = static_cast<std::size_t>(id - n);
    return fmt::format(R"({{"id":{},"parent":{},"birth":{},"death":{},"size":{},"label":{}}})", id, parent,
                       number(birth), number(model.clusters.largest_lambda[at]), size,
                       chosen[at] < 0 ? "null" : std::to_string(chosen[at]));
  };
  if (!model.condensed.empty()) json += node(n, "null", 0, n);
  for (const CondensedEdge& edge : model.condensed) {
    if (edge.child < n) continue;
    json += ',';
    json += node(edge.child, std::to_string(edge.parent), edge.lambda, edge.size);
  }
  json += "]}";
  return json;
}

}  // namespace moextract::cluster::hdbscan
