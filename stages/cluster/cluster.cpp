#include "stages/cluster/cluster.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>

#include "core/error.h"
#include "stages/cluster/layer_state.h"
#include "stages/cluster/shard_row_source.h"
#include "store/safetensors.h"
#include "store/shard_rows.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kSummaryKey = "moextract.clusters";

template <class T>
store::TensorView view_of(const std::vector<T>& values, std::vector<std::int64_t> shape, store::TensorType type) {
  store::TensorView view;
  view.type = type;
  view.shape = std::move(shape);
  view.data = std::as_bytes(std::span(values));
  return view;
}

json summarise(const ClusterParams& params, std::int64_t layer, const cluster::KMeansModel& model, std::int64_t rows) {
  json history = json::array();
  for (const cluster::KMeansIteration& it : model.history) history.push_back(it.inertia);
  return {{"layer", layer},
          {"tap", store::tap_name(params.tap)},
          {"k", model.k},
          {"rows", rows},
          {"inertia", model.inertia},
          {"iterations", model.history.size()},
          {"converged", model.converged},
          {"empty_refilled", model.empty_refilled},
          {"sizes", model.sizes},
          {"history", std::move(history)}};
}

void save_layer(const fs::path& path, const cluster::KMeansModel& model, const std::vector<std::int32_t>& labels,
                const json& summary) {
  const auto rows = static_cast<std::int64_t>(labels.size());
  store::write_safetensors(path,
                           {{"centroids", view_of(model.centroids, {model.k, model.dimension}, store::TensorType::f32)},
                            {"labels", view_of(labels, {rows}, store::TensorType::i32)},
                            {"sizes", view_of(model.sizes, {model.k}, store::TensorType::i64)}},
                           {{kSummaryKey, summary.dump()}});
}

/// Saves where a layer stands, not too often. Used on rank 0.
class LayerKeeper {
 public:
  LayerKeeper(fs::path path, std::string key, const ClusterParams& params)
      : path_(std::move(path)),
        key_(std::move(key)),
        k_(params.kmeans.k),
        interval_(std::chrono::seconds(params.checkpoint_seconds)),
        last_(Clock::now()) {}

  /// Nothing if there is no state, or none that can be used: then the layer begins anew.
  std::optional<cluster::KMeansState> load(spdlog::logger& log) const {
    try {
      return load_layer_state(path_, key_);
    } catch (const UserError& error) {
      log.warn("{}; the layer is begun anew", error.what());
      return std::nullopt;
    }
  }
  void keep(const cluster::KMeansState& state, bool stopping) {
    if (!stopping && Clock::now() - last_ < interval_) return;
    save_layer_state(path_, key_, state, k_);
    last_ = Clock::now();
  }
  void remove() const {
    std::error_code error;
    fs::remove(path_, error);
    if (error) fail(ExitCode::storage, "{}: cannot be removed ({})", path_.string(), error.message());
  }

 private:
  using Clock = std::chrono::steady_clock;
  fs::path path_;
  std::string key_;
  std::int64_t k_;
  Clock::duration interval_;
  Clock::time_point last_;
};

/// Collective. The fit of one layer, from where an earlier run left it.
cluster::KMeansFit fit_layer(const ClusterParams& params, const ShardRowSource& source, std::int64_t layer,
                             std::int64_t layers, LayerKeeper& keeper, run::Context& context) {
  std::optional<cluster::KMeansState> state;
  context.comm.together([&] {
    if (context.comm.is_root()) state = keeper.load(*context.log);
  });
  share_layer_state(state, context.comm);
  if (state) {
    context.log->info("cluster: layer {}: goes on from iteration {} of start {}", layer, state->iteration,
                      state->start + 1);
  }
  const cluster::KMeansHooks hooks{
      .on_state = [&](const cluster::KMeansState& now, bool stopping) { keeper.keep(now, stopping); },
      .should_stop = context.should_stop,
      .resume_from = state ? &*state : nullptr};
  try {
    return cluster::fit(source, params.kmeans, context.comm, context.workers, hooks);
  } catch (const cluster::KMeansStopped& stopped) {
    fail(
        ExitCode::resume,
        "clustering was asked to stop; {} of {} layers are saved, and of the next one {} iterations of start {} of {}. "
        "Run the same command again to go on",
        layer, layers, stopped.iteration(), stopped.start() + 1, params.kmeans.n_init);
  }
}

}  // namespace

void describe(config::Section section, ClusterParams& p) {
  section.add_enum<store::Tap>(
      "tap", p.tap,
      {{"h", store::Tap::h, "hidden values after the GELU (MoEE)"}, {"x", store::Tap::x, "input of the MLP"}},
      "Which activations are clustered");
  section.add("k", &p.kmeans.k, "Clusters, hence experts, of each layer; layers with fewer than two stay dense")
      .at_least(1);
  section.add("max_iterations", &p.kmeans.max_iterations, "Lloyd iterations at most").at_least(1);
  section
      .add("tolerance", &p.kmeans.tolerance,
           "Stop when no centroid moved by more than this times the root mean square radius")
      .at_least(0);
  section.add("n_init", &p.kmeans.n_init, "Independent starts; the one with the lowest inertia is kept").at_least(1);
  section.add_enum<cluster::KMeansInit>(
      "init", p.kmeans.init,
      {{"parallel", cluster::KMeansInit::parallel, "k-means||: candidates from all rows, k-means++ among them"},
       {"plus_plus", cluster::KMeansInit::plus_plus, "k-means++ on a drawn sample"},
       {"random", cluster::KMeansInit::random, "drawn rows"}},
      "How the first centroids are chosen");
  section.add("init_sample", &p.kmeans.init_sample, "Rows drawn for the initialisation").at_least(1).in("rows");
  section.add("spherical", &p.kmeans.spherical, "Cosine instead of Euclidean distance: rows are scaled to unit length");
  section
      .add("inertia_tolerance", &p.kmeans.inertia_tolerance,
           "Stop when an iteration lowers the inertia by no more than this share; 0: never")
      .at_least(0);
  section.add_enum<cluster::EmptyClusters>(
      "empty", p.kmeans.empty,
      {{"farthest", cluster::EmptyClusters::farthest, "it is given the row farthest from its centroid"},
       {"keep", cluster::EmptyClusters::keep, "its centroid stays"},
       {"refuse", cluster::EmptyClusters::refuse, "the run ends with an error"}},
      "What becomes of a cluster without rows");
  section.add("init_rounds", &p.kmeans.init_rounds, "Rounds in which the parallel start draws candidates").at_least(1);
  section
      .add("bounds_bytes", &p.kmeans.bounds_bytes,
           "Most memory for distance bounds, which spare work and change no result; 0: none")
      .at_least(0)
      .in("bytes")
      .runtime_only();
  section.add("seed", &p.kmeans.seed, "Seed of the initialisation");
  section.add("block_rows", &p.block_rows, "Rows read at once").at_least(1).in("rows").runtime_only();
  section
      .add("checkpoint_seconds", &p.checkpoint_seconds,
           "An unfinished layer is saved after an iteration if the last save is this long ago; 0: after every one")
      .at_least(0)
      .in("seconds")
      .runtime_only();
}

fs::path layer_clusters_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("layer-{:03}.safetensors", layer);
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
  if (clusters.summary.is_discarded())
    fail(ExitCode::input, "{}: its metadata is damaged: run `moextract cluster` again", path.string());
  clusters.k = clusters.summary.value("k", std::int64_t{0});
  for (const std::int32_t label : clusters.labels) {
    if (label < 0 || label >= clusters.k)
      fail(ExitCode::input, "{}: holds a label outside of its clusters: run `moextract cluster` again", path.string());
  }
  return clusters;
}

json cluster_layers(const ClusterParams& params, const ClusterInputs& inputs, run::Context& context,
                    const fs::path& folder) {
  std::vector<store::ShardExtent> shards;
  std::vector<std::int64_t> widths;
  context.comm.together([&] {
    shards = store::list_shards(inputs.shards);
    if (shards.empty()) fail(ExitCode::input, "there are no shards to cluster: run `moextract collect` first");
    const store::ShardReader first(shards.front().path);
    for (std::int64_t layer = 0; layer < inputs.layers; ++layer) {
      widths.push_back(first.width(layer, params.tap));
      if (widths.back() == 0) {
        fail(ExitCode::input, "{}: holds no {} of layer {}: run `moextract collect` with this tap",
             shards.front().path.string(), store::tap_name(params.tap), layer);
      }
    }
  });
  std::int64_t rows = 0;
  for (const store::ShardExtent& shard : shards) rows += shard.rows;
  std::int64_t found = 0;
  for (std::int64_t layer = 0; layer < inputs.layers; ++layer) {
    const fs::path path = layer_clusters_path(folder, layer);
    std::int32_t there = 0;
    if (context.comm.is_root()) there = fs::exists(path) ? 1 : 0;  // files appear complete: written under another name
    context.comm.broadcast(std::span<std::int32_t>(&there, 1));
    LayerKeeper keeper(layer_state_path(folder, layer), fmt::format("{}/{}", folder.filename().string(), layer),
                       params);
    if (there) {
      ++found;
      // A kill between the last two steps of a layer leaves both files.
      context.comm.together([&] {
        if (context.comm.is_root()) keeper.remove();
      });
      continue;
    }
    if (context.comm.all_reduce_value<std::int32_t>(context.should_stop() ? 1 : 0, comm::Reduction::max) > 0) {
      fail(ExitCode::resume,
           "clustering was asked to stop; {} of {} layers are saved. Run the same command again to go on", layer,
           inputs.layers);
    }
    const ShardRowSource source(part_of_rank(shards, context.comm.rank(), context.comm.size()), layer, params.tap,
                                widths[static_cast<std::size_t>(layer)], params.block_rows);
    const cluster::KMeansFit fit = fit_layer(params, source, layer, inputs.layers, keeper, context);
    const std::vector<std::int32_t> labels = context.comm.all_gather(std::span<const std::int32_t>(fit.labels));
    context.comm.together([&] {
      if (!context.comm.is_root()) return;
      save_layer(path, fit.model, labels, summarise(params, layer, fit.model, rows));
      keeper.remove();
      context.log->info(
          "cluster: layer {}: {} clusters of {} rows, {} to {} rows each, inertia {:.6g} after {} iterations{}", layer,
          fit.model.k, rows, *std::min_element(fit.model.sizes.begin(), fit.model.sizes.end()),
          *std::max_element(fit.model.sizes.begin(), fit.model.sizes.end()), fit.model.inertia,
          fit.model.history.size(), fit.model.converged ? "" : " (not converged)");
    });
  }
  return {{"rows", rows}, {"layers", inputs.layers}, {"layers_found", found}};
}

}  // namespace moextract::stages
