#include "stages/moments/layer_router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/float16.h"
#include "moe/gather_tensors.h"
#include "run/progress.h"
#include "stages/cluster/layer_clusters.h"
#include "stages/cluster/load_centroids.h"
#include "stages/cluster/shard_row_source.h"
#include "store/shard_rows.h"

namespace moextract::stages {
namespace fs = std::filesystem;
namespace {

/// Part of the routers' definition: products of another number of rows may round otherwise.
constexpr std::int64_t kBlockRows = 2048;

/// Whether a token's cluster can be told from its input by the centroids.
bool is_of_inputs(const std::string& tap) {
  return tap == tap_name(ClusterTap::x) || tap == tap_name(ClusterTap::z);
}

LayerRouter fit_layer_router(const moe::RouterParams& params, std::int64_t layer, const fs::path& clusters,
                             std::span<const store::ShardExtent> shards) {
  const LayerClusters labelled = load_layer_clusters(clusters, layer);
  moe::Centroids centroids;
  if (is_of_inputs(labelled.summary.value("tap", std::string())))
    centroids = load_centroids(clusters, layer, labelled.k);
  std::int64_t width = 0;
  if (!shards.empty()) width = store::ShardReader(shards.front().path).width(layer, store::Tap::x);
  if (width == 0 && !(centroids.rows.defined() && params.kind == moe::RouterKind::nearest && params.top_k == 1)) {
    fail(ExitCode::input,
         "the shards hold no x of layer {}, which this router is fitted to: record both taps, or cluster x or z and "
         "set router.kind to nearest",
         layer);
  }
  const std::int64_t rows = shards.empty() ? 0 : shards.back().first_global + shards.back().rows;
  if (width > 0 && static_cast<std::int64_t>(labelled.labels.size()) != rows) {
    fail(ExitCode::input, "layer {}: the clusters label {} rows, but the shards hold {}: run `moextract cluster` again",
         layer, labelled.labels.size(), rows);
  }
  const moe::LabelledRows stream = [&](const std::function<void(const at::Tensor&, const at::Tensor&)>& visit) {
    if (width == 0) return;
    store::stream_rows(shards, layer, store::Tap::x, kBlockRows,
                       [&](std::int64_t first, std::int64_t count, std::span<const std::uint16_t> raw) {
                         at::Tensor x = at::empty({count, width}), label = at::empty({count}, at::kLong);
                         from_float16(raw, {x.data_ptr<float>(), raw.size()});
                         const auto own = labelled.labels.begin() + first;
                         std::copy(own, own + count, label.data_ptr<std::int64_t>());
                         visit(x, label);
                       });
  };
  const std::int64_t k = std::max<std::int64_t>(labelled.k, 1);
  const std::int64_t inputs =
      width > 0 ? width : (centroids.map_weight.defined() ? centroids.map_weight : centroids.rows).size(1);
  const moe::FittedRouter fitted = moe::fit_router(params, k, inputs, centroids, stream);
  return {fitted.weights, width > 0 ? fitted.agreement : -1.0};
}

}  // namespace

void describe(config::Section section, moe::RouterParams& p) {
  section.add_enum<moe::RouterKind>(
      "kind", p.kind,
      {{"automatic", moe::RouterKind::automatic, "cosine with recorded statistics (MoEE), nearest with streamed ones"},
       {"nearest", moe::RouterKind::nearest,
        "nearest mean input of the clusters; the nearest centroid where cluster.tap is x or z"},
       {"cosine", moe::RouterKind::cosine, "largest cosine to the mean input of the clusters (MoEE)"},
       {"linear", moe::RouterKind::linear, "linear discriminant analysis of inputs and clusters, in closed form"},
       {"mlp", moe::RouterKind::mlp, "a small MLP, trained on the recorded inputs and their clusters"},
       {"random", moe::RouterKind::random, "control: tokens go to any expert, by a hash of their input"}},
      "How a token chooses its expert");
  section.add_enum<moe::ClassToken>(
      "class_token", p.class_token,
      {{"automatic", moe::ClassToken::automatic, "routed with recorded statistics, dense with streamed ones"},
       {"routed", moe::ClassToken::routed, "like every other token"},
       {"dense", moe::ClassToken::dense, "it runs all neurons; with one shared output matrix all that any expert has"},
       {"own", moe::ClassToken::own, "it has an expert of its own, cut like the others"}},
      "What becomes of the class token (and a distillation token)");
  section.add("top_k", &p.top_k, "Experts that a token goes to at most; their answers are averaged, weighted by p")
      .at_least(1);
  section
      .add("tau", &p.tau,
           "With top_k above 1, dynamic k (D2DMoE): an expert runs where its p is at least 1 - tau of the largest; 1: "
           "always top_k")
      .at_least(0)
      .at_most(1);
  section
      .add("temperature", &p.temperature,
           "p = softmax(scores / temperature), in units of the mean margin between a token's best two scores")
      .at_least(1e-6);
  section.add("hidden", &p.hidden, "mlp: hidden neurons").at_least(1).in("neurons");
  section.add("steps", &p.steps, "mlp: steps of its training").at_least(1);
  section.add("batch", &p.batch, "mlp: rows of a step").at_least(1).in("rows");
  section.add("learning_rate", &p.learning_rate, "mlp: Adam's").at_least(0);
  section.add("ridge", &p.ridge, "linear: share of the mean variance added to the covariance of the inputs")
      .at_least(1e-9);
  section.add("seed", &p.seed, "mlp and random: seed");
}

std::vector<LayerRouter> fit_layer_routers(const moe::RouterParams& params, std::span<const std::int64_t> layers,
                                           const fs::path& clusters, const std::vector<fs::path>& shards,
                                           run::Context& context) {
  model::TensorMap mine;
  context.comm.together([&] {
    const std::vector<store::ShardExtent> extents = store::list_shards(shards);
    run::Progress progress(context.comm.is_root() ? context.log : nullptr, "routers",
                           static_cast<std::int64_t>(layers.size()), "layers");
    for (std::size_t i = static_cast<std::size_t>(context.comm.rank()); i < layers.size();
         i += static_cast<std::size_t>(context.comm.size())) {
      if (context.should_stop())
        fail(ExitCode::resume, "the fit of routers was asked to stop. Run the same command again to go on");
      const LayerRouter router = fit_layer_router(params, layers[i], clusters, extents);
      const std::string prefix = fmt::format("{}.", i);
      moe::put_router(prefix, router.weights, mine);
      // In double, and also where one expert is chosen.
      mine[prefix + "facts"] = at::tensor({router.weights.temperature, router.agreement}, at::kDouble);
      progress.add(context.comm.size());
    }
  });
  const model::TensorMap all = moe::gather_tensors(mine, context.comm);
  std::vector<LayerRouter> routers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string prefix = fmt::format("{}.", i);
    LayerRouter router{moe::get_router(prefix, all), all.at(prefix + "facts")[1].item<double>()};
    router.weights.temperature = all.at(prefix + "facts")[0].item<double>();
    routers.push_back(std::move(router));
  }
  return routers;
}

}  // namespace moextract::stages
