#include "stages/cluster/cluster.h"

#include <algorithm>
#include <optional>
#include <span>

#include "cluster/row_moments.h"
#include "core/error.h"
#include "stages/cluster/layer_fit.h"
#include "stages/cluster/preactivation_map.h"
#include "stages/cluster/shard_row_source.h"
#include "store/safetensors.h"
#include "store/shard_rows.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

struct Widths {
  std::int64_t x = 0, h = 0;
};

/// Widths of each layer's rows; an error if what the tap needs was not recorded.
std::vector<Widths> widths_of(const fs::path& shard, ClusterTap tap, std::int64_t layers) {
  const store::ShardReader reader(shard);
  std::vector<Widths> widths;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const Widths w{reader.width(layer, store::Tap::x), reader.width(layer, store::Tap::h)};
    const bool no_x = reads_x(tap) && w.x == 0;
    if (no_x || (reads_h(tap) && w.h == 0)) {
      fail(ExitCode::input, "{}: holds no {} of layer {}: run `moextract collect` with this tap", shard.string(),
           no_x ? "x" : "h", layer);
    }
    widths.push_back(w);
  }
  return widths;
}

/// Collective. What rows of the tap are computed by; nothing for taps that are recorded. `part`: this rank's rows.
std::optional<RowMap> map_of(const std::vector<store::ShardExtent>& part, std::int64_t layer,
                             ShardRowSource::Settings settings, const ClusterInputs& inputs, run::Context& context) {
  if (settings.tap != ClusterTap::y && settings.tap != ClusterTap::z) return std::nullopt;
  const bool of_outputs = settings.tap == ClusterTap::y;
  const std::int64_t width = of_outputs ? settings.h_width : settings.x_width;
  RowMap map;
  context.comm.together([&] {
    MOEX_ASSERT(inputs.mlp_layer, "this tap needs the model's weights");
    map = inputs.mlp_layer(layer);
    if (map.inputs != width) {
      fail(ExitCode::input,
           "the shards hold {} {} a row of layer {}, but the model's weights take {}: they are of another model; run "
           "`moextract collect` again",
           width, of_outputs ? "hidden values" : "inputs", layer, map.inputs);
    }
  });
  if (of_outputs) return map;
  settings.tap = ClusterTap::x;
  settings.keep_bytes = 0;
  const ShardRowSource rows(part, layer, settings, context.workers);
  const cluster::RowMoments moments = cluster::stream_row_moments(rows, width, false, context.comm, context.workers);
  // On one rank: there is nothing to share, and others may run on processors that round otherwise.
  context.comm.together([&] {
    if (context.comm.is_root()) map = preactivation_map(map, moments, context.workers);
  });
  map.outputs = width;
  map.weight.resize(static_cast<std::size_t>(width * width));
  map.bias.resize(static_cast<std::size_t>(width));
  context.comm.broadcast(std::span(map.weight));
  context.comm.broadcast(std::span(map.bias));
  return map;
}

/// What the manifest says of all layers, from their files.
json counts_of(const ClusterParams& params, const fs::path& folder, std::int64_t layers) {
  json ks = json::array(), sampled = json::array(), noise = json::array(), held_back = json::array();
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const json summary = load_layer_clusters(folder, layer).summary;
    ks.push_back(summary.at("k"));
    if (params.method != ClusterMethod::hdbscan) continue;
    sampled.push_back(summary.at("sampled_rows"));
    noise.push_back(summary.at("noise_rows"));
    held_back.push_back(summary.value("held_back", json()));
  }
  json counts{{"method", params.method == ClusterMethod::hdbscan ? "hdbscan" : "kmeans"}, {"k", std::move(ks)}};
  if (params.method == ClusterMethod::hdbscan) {
    counts.update(
        {{"sampled_rows", std::move(sampled)}, {"noise_rows", std::move(noise)}, {"held_back", std::move(held_back)}});
  }
  return counts;
}

void say(const LayerFit& fit, const ClusterParams& params, std::int64_t layer, spdlog::logger& log) {
  const bool kmeans = params.method == ClusterMethod::kmeans;
  const std::string how =
      kmeans ? fmt::format(", inertia {:.6g} after {} iterations{}", fit.summary.at("inertia").get<double>(),
                           fit.history.size(), fit.summary.at("converged") ? "" : " (not converged)")
             : std::string();
  log.info("cluster: layer {}: {} clusters of {} rows, {} to {} rows each{}", layer, fit.k,
           fit.summary.at("rows").get<std::int64_t>(), *std::min_element(fit.sizes.begin(), fit.sizes.end()),
           *std::max_element(fit.sizes.begin(), fit.sizes.end()), how);
}

}  // namespace

json cluster_layers(const ClusterParams& params, const ClusterInputs& inputs, run::Context& context,
                    const fs::path& folder) {
  std::vector<store::ShardExtent> shards;
  std::vector<Widths> widths;
  context.comm.together([&] {
    shards = store::list_shards(inputs.shards);
    if (shards.empty()) fail(ExitCode::input, "there are no shards to cluster: run `moextract collect` first");
    widths = widths_of(shards.front().path, params.tap, inputs.layers);
  });
  std::int64_t rows = 0;
  for (const store::ShardExtent& shard : shards) rows += shard.rows;
  std::int64_t found = 0;
  for (std::int64_t layer = 0; layer < inputs.layers; ++layer) {
    const LayerPlace place{folder, layer, inputs.layers};
    std::int32_t there = 0;
    // Files appear complete, written under another name; what has befallen them since, the checksum tells.
    if (context.comm.is_root()) there = store::is_whole_safetensors(layer_clusters_path(folder, layer)) ? 1 : 0;
    context.comm.broadcast(std::span<std::int32_t>(&there, 1));
    if (there) {
      ++found;
      // A kill between the last two steps of a layer leaves both files.
      context.comm.together([&] {
        if (context.comm.is_root()) forget_layer(place);
      });
      continue;
    }
    if (context.comm.all_reduce_value<std::int32_t>(context.should_stop() ? 1 : 0, comm::Reduction::max) > 0) {
      fail(ExitCode::resume,
           "clustering was asked to stop; {} of {} layers are saved. Run the same command again to go on", layer,
           inputs.layers);
    }
    const std::vector<store::ShardExtent> part = store::part_of_rows(shards, context.comm.rank(), context.comm.size());
    ShardRowSource::Settings settings{.tap = params.tap,
                                      .x_width = widths[static_cast<std::size_t>(layer)].x,
                                      .h_width = widths[static_cast<std::size_t>(layer)].h,
                                      .block_rows = params.block_rows,
                                      .keep_bytes = params.keep_bytes};
    const std::optional<RowMap> map = map_of(part, layer, settings, inputs, context);
    settings.map = map ? &*map : nullptr;
    const ShardRowSource source(part, layer, settings, context.workers);
    LayerFit fit = fit_layer(params, source, place, context);
    if (params.tap == ClusterTap::z) fit.map = *map;
    fit.labels = context.comm.all_gather(std::span<const std::int32_t>(fit.labels));
    fit.probabilities = context.comm.all_gather(std::span<const float>(fit.probabilities));
    context.comm.together([&] {
      if (!context.comm.is_root()) return;
      save_layer_clusters(folder, layer, fit);
      forget_layer(place);
      say(fit, params, layer, *context.log);
    });
  }
  json counts{{"rows", rows}, {"layers", inputs.layers}, {"layers_found", found}};
  context.comm.together([&] {
    if (context.comm.is_root()) counts.update(counts_of(params, folder, inputs.layers));
  });
  return counts;
}

}  // namespace moextract::stages
