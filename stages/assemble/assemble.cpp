#include "stages/assemble/assemble.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "moe/selection.h"
#include "stages/assemble/fit_experts.h"
#include "stages/assemble/layer_statistics.h"
#include "stages/cluster/cluster.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// Sizes that a share p would give, for finding the p that meets a budget.
class ExpertBudget {
 public:
  ExpertBudget(const std::vector<LayerStatistics>& statistics, const model::Network& dense, const model::VitParams& vit,
               std::int64_t min_neurons)
      : statistics_(statistics),
        vit_(vit),
        min_neurons_(min_neurons),
        other_macs_(dense.other_macs()),
        d_(static_cast<double>(vit.width)),
        hidden_(static_cast<double>(vit.hidden)),
        dense_macs_(model::macs_per_image(dense, {})) {
    for (const LayerStatistics& layer : statistics) {
      std::vector<moe::NeuronRanking> rankings;
      for (std::int64_t c = 0; c < layer.moments.k; ++c) rankings.emplace_back(layer.moments.h_variance_of(c));
      rankings_.push_back(std::move(rankings));
    }
  }

  /// Fewer than two clusters, or an MLP that sees prefix tokens alone: the layer stays dense.
  bool has_experts(std::size_t layer) const {
    return statistics_[layer].moments.k >= 2 &&
           vit_.mlp_tokens(static_cast<std::int64_t>(layer)) > vit_.prefix_tokens();
  }
  /// Mean hidden neurons a token uses, the router's products counted as neurons (k d = k / 2 neurons).
  double active_neurons(std::size_t layer, double share) const {
    if (!has_experts(layer)) return hidden_;
    double active = 0.5 * static_cast<double>(statistics_[layer].moments.k);
    for (std::size_t c = 0; c < rankings_[layer].size(); ++c) {
      active +=
          statistics_[layer].token_share[c] * static_cast<double>(rankings_[layer][c].size_at(share, min_neurons_));
    }
    return active;
  }
  double macs(double share) const {
    double macs = other_macs_;
    for (std::size_t layer = 0; layer < rankings_.size(); ++layer) {
      macs += tokens(layer) * 2.0 * d_ * active_neurons(layer, share);
    }
    return macs / dense_macs_;
  }
  double active_share(double share) const {
    double active = 0, all = 0;
    for (std::size_t layer = 0; layer < rankings_.size(); ++layer) {
      active += tokens(layer) * active_neurons(layer, share);
      all += tokens(layer) * hidden_;
    }
    return active / all;
  }
  std::vector<std::vector<std::int64_t>> neurons(std::size_t layer, double share) const {
    std::vector<std::vector<std::int64_t>> sets;
    for (const moe::NeuronRanking& ranking : rankings_[layer]) sets.push_back(ranking.take(share, min_neurons_));
    return sets;
  }

 private:
  double tokens(std::size_t layer) const {
    return static_cast<double>(vit_.mlp_tokens(static_cast<std::int64_t>(layer)));
  }

  const std::vector<LayerStatistics>& statistics_;
  const model::VitParams& vit_;
  std::int64_t min_neurons_;
  double other_macs_, d_, hidden_, dense_macs_;
  std::vector<std::vector<moe::NeuronRanking>> rankings_;
};

double find_share(const AssembleParams& params, const ExpertBudget& budget) {
  if (params.target_macs && params.target_active) {
    fail(ExitCode::config, "assemble: target_macs and target_active exclude each other: give one of them");
  }
  if (params.target_macs) {
    return moe::largest_share_within(
        *params.target_macs, [&](double p) { return budget.macs(p); }, "assemble.target_macs");
  }
  if (params.target_active) {
    return moe::largest_share_within(
        *params.target_active, [&](double p) { return budget.active_share(p); }, "assemble.target_active");
  }
  return params.share;
}

/// Writes model and assembly.json from rank 0; the expected MACs are counted over the built network itself.
json write_assembly(const moe::LoadedModel& source, const model::TensorMap& tensors, const model::TokenShares& shares,
                    json assembly, run::Context& context, const fs::path& folder) {
  const auto network = moe::make_network(source.description, tensors);
  const auto dense = moe::make_network(source.description, source.tensors);
  const double macs = model::macs_per_image(*network, shares), dense_macs = model::macs_per_image(*dense, {});
  assembly["macs_per_image"] = macs;
  assembly["dense_macs_per_image"] = dense_macs;
  assembly["parameters"] = model::count_parameters(tensors);
  assembly["dense_parameters"] = model::count_parameters(source.tensors);
  context.comm.together([&] {
    if (!context.comm.is_root()) return;
    moe::save_model(folder / kModelFile, source.description, tensors, {{"moextract.assembly", assembly.dump()}});
    write_file_atomically(folder / kAssemblyFile, assembly.dump(2) + "\n");
  });
  context.log->info("assemble: {:.3f} of the dense MACs and {:.3f} of the parameters", macs / dense_macs,
                    static_cast<double>(model::count_parameters(tensors)) /
                        static_cast<double>(model::count_parameters(source.tensors)));
  return {{"macs_per_image", macs}, {"parameters", assembly["parameters"]}};
}

std::vector<store::ShardExtent> open_shards(const AssembleInputs& inputs, run::Context& context) {
  std::vector<store::ShardExtent> shards;
  context.comm.together([&] {
    shards = store::list_shards(inputs.shards);
    if (shards.empty() || shards.back().first_global + shards.back().rows == 0) {
      fail(ExitCode::input, "the shards hold no rows: run `moextract collect` with more images or tokens");
    }
  });
  return shards;
}

}  // namespace

void describe(config::Section section, AssembleParams& p) {
  section.add_enum<Method>(
      "method", p.method,
      {{"variance", Method::variance, "MoEE: neurons by variance, routing by cosine to the mean input"},
       {"least_squares", Method::least_squares,
        "backward elimination and least squares on second moments, routing to the nearest centroid; needs "
        "cluster.tap x and a target"}},
      "How experts are cut out");
  section.add("share", &p.share, "variance: share p of a cluster's summed variance that its expert holds")
      .at_least(0)
      .at_most(1);
  section
      .add("target_macs", &p.target_macs, "Find p by itself: MACs of the whole model as a share of the dense model's")
      .at_least(0)
      .at_most(1);
  section
      .add("target_active", &p.target_active,
           "Find p by itself: mean share of hidden neurons that a token uses, the router's products counted in")
      .at_least(0)
      .at_most(1);
  section
      .add("target_parameters", &p.target_parameters,
           "least_squares with shared storage: first cut neurons from whole layers until the model has this share of "
           "the "
           "dense model's parameters, then choose experts among the rest")
      .at_least(0)
      .at_most(1);
  section.add_enum<moe::Storage>("storage", p.storage,
                                 {{"shared", moe::Storage::shared, "one copy of each neuron that any expert uses"},
                                  {"own_output", moe::Storage::own_output,
                                   "least_squares: input weights shared, each expert has its own output weights"},
                                  {"separate", moe::Storage::separate, "each expert has its own copy of its neurons"}},
                                 "How weights are stored; with variance the results are the same until fine-tuning");
  section.add_enum<moe::Compensation>(
      "compensation", p.compensation,
      {{"none", moe::Compensation::none, "dropped neurons count as zero (MoEE as published)"},
       {"mean_shift", moe::Compensation::mean_shift,
        "an output bias for each expert takes up the mean of the dropped neurons over its cluster"}},
      "What makes up for dropped neurons");
  section.add("min_neurons", &p.min_neurons, "Neurons that an expert keeps at least").at_least(1).in("neurons");
  section.add("ridge", &p.ridge, "least_squares: share of the mean variance added to the diagonal of second moments")
      .at_least(1e-9);
  section
      .add("fisher", &p.fisher,
           "least_squares: when neurons are chosen, share of the gradients' directions in the metric of the output "
           "error; "
           "0: all directions count alike")
      .at_least(0)
      .at_most(1);
  section
      .add("pooled_tokens", &p.pooled_tokens,
           "least_squares: mix this many tokens' worth of the whole layer's second moments into those of each expert")
      .at_least(0)
      .in("tokens");
  section
      .add("expert_power", &p.expert_power,
           "least_squares: scores of an expert are divided by this power of their mean, relative to its layer")
      .at_least(0)
      .at_most(1);
  section
      .add("layer_power", &p.layer_power,
           "least_squares: scores of a layer are multiplied by this power of its mean squared gradient")
      .at_least(0)
      .at_most(2);
}

void describe(config::Section section, VbpParams& p) {
  section
      .add("share", &p.share, "Share of all hidden neurons that are pruned; null: by target_macs or the experts' MACs")
      .at_least(0)
      .at_most(1);
  section
      .add("target_macs", &p.target_macs,
           "MACs of the whole model as a share of the dense model's; null: as many as the experts")
      .at_least(0)
      .at_most(1);
  section.add_enum<moe::Compensation>(
      "compensation", p.compensation,
      {{"none", moe::Compensation::none, "dropped neurons count as zero"},
       {"mean_shift", moe::Compensation::mean_shift, "the output bias takes up their mean (VBP)"}},
      "What makes up for pruned neurons");
  section.add("min_neurons", &p.min_neurons, "Neurons kept in each layer at least").at_least(1).in("neurons");
}

json assemble_experts(const AssembleParams& params, const AssembleInputs& inputs, run::Context& context,
                      const fs::path& folder) {
  if (params.method == Method::least_squares) {
    model::TensorMap tensors = inputs.model.tensors;
    model::TokenShares shares;
    json assembly = fit_experts(params, inputs.model, inputs.moments, context, tensors, shares);
    return write_assembly(inputs.model, tensors, shares, std::move(assembly), context, folder);
  }
  if (params.storage == moe::Storage::own_output) {
    fail(ExitCode::config,
         "assemble.storage: own_output goes with assemble.method: least_squares; choose shared or separate");
  }
  const std::vector<store::ShardExtent> shards = open_shards(inputs, context);
  const model::VitParams& vit = inputs.model.description.vit;
  const LabelsOf labels = [&](std::int64_t layer, std::int64_t* k) {
    LayerClusters clusters = load_layer_clusters(inputs.clusters, layer);
    *k = clusters.k;
    return std::move(clusters.labels);
  };
  const std::vector<LayerStatistics> statistics = gather_statistics(shards, vit.depth, labels, context);
  const auto dense = moe::make_network(inputs.model.description, inputs.model.tensors);
  const ExpertBudget budget(statistics, *dense, vit, params.min_neurons);
  const double share = find_share(params, budget);

  model::TensorMap tensors = inputs.model.tensors;
  model::TokenShares shares(static_cast<std::size_t>(vit.depth));
  json layers = json::array();
  for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    json facts{{"layer", layer}, {"hidden", vit.hidden}};
    if (!budget.has_experts(l)) {
      facts.update({{"kind", "dense"}, {"k", statistics[l].moments.k}});
    } else {
      moe::assemble_experts(layer, statistics[l].moments, budget.neurons(l, share), params.storage, params.compensation,
                            tensors);
      shares[l] = statistics[l].token_share;
      const moe::LayerSummary summary = moe::summarise_layer(layer, tensors);
      std::int64_t sum = 0;
      for (const std::int64_t size : summary.sizes) sum += size;
      facts.update({{"kind", "experts"},
                    {"k", summary.k},
                    {"sizes", summary.sizes},
                    {"union", summary.union_size},
                    {"sum_sizes", sum},
                    {"rows", statistics[l].moments.count},
                    {"token_share", statistics[l].token_share},
                    {"overlap", moe::expert_overlaps(layer, tensors)},
                    {"router_agreement", statistics[l].agreement}});
    }
    layers.push_back(std::move(facts));
  }
  json assembly{{"method", "moee"},
                {"share", share},
                {"active_share", budget.active_share(share)},
                {"layers", std::move(layers)}};
  return write_assembly(inputs.model, tensors, shares, std::move(assembly), context, folder);
}

json assemble_vbp(const VbpParams& params, const AssembleInputs& inputs, std::optional<double> equal_macs,
                  run::Context& context, const fs::path& folder) {
  const std::vector<store::ShardExtent> shards = open_shards(inputs, context);
  const model::VitParams& vit = inputs.model.description.vit;
  const LabelsOf one_cluster = [](std::int64_t, std::int64_t* k) {
    *k = 1;
    return std::vector<std::int32_t>();
  };
  const std::vector<LayerStatistics> statistics = gather_statistics(shards, vit.depth, one_cluster, context);
  const auto dense = moe::make_network(inputs.model.description, inputs.model.tensors);
  const std::int64_t all = vit.depth * vit.hidden;
  std::vector<std::vector<double>> variance;
  for (const LayerStatistics& layer : statistics) variance.push_back(layer.moments.h_variance);
  // A neuron costs as many products as its layer has tokens, so the number to keep is searched, not divided out.
  const auto macs_of = [&](std::int64_t keep) {
    const std::vector<std::vector<std::int64_t>> sets = moe::rank_globally(variance, keep, params.min_neurons);
    double macs = dense->other_macs();
    for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
      macs += static_cast<double>(vit.mlp_tokens(layer)) * 2.0 * static_cast<double>(vit.width) *
              static_cast<double>(sets[static_cast<std::size_t>(layer)].size());
    }
    return macs;
  };
  std::int64_t keep = all;
  if (params.share) {
    keep = static_cast<std::int64_t>(std::llround((1.0 - *params.share) * static_cast<double>(all)));
  } else {
    const double dense_macs = model::macs_per_image(*dense, {});
    const double target = params.target_macs ? *params.target_macs * dense_macs : equal_macs.value_or(dense_macs);
    if (const double least = macs_of(0); least > target) {
      fail(ExitCode::config,
           "vbp: {:.4g} of the dense MACs cannot be met: with baseline.min_neurons in each layer the smallest model "
           "costs "
           "{:.4g}",
           target / dense_macs, least / dense_macs);
    }
    for (std::int64_t low = 0, high = all + 1; low + 1 < high;) {  // macs_of(low) <= target, that of high is not
      const std::int64_t middle = low + (high - low) / 2;
      (macs_of(middle) <= target * (1 + 1e-12) ? low : high) = middle;
      keep = low;
    }
  }
  const std::vector<std::vector<std::int64_t>> kept = moe::rank_globally(variance, keep, params.min_neurons);

  model::TensorMap tensors = inputs.model.tensors;
  json layers = json::array();
  for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    moe::prune_layer(layer, statistics[l].moments, kept[l], params.compensation, tensors);
    layers.push_back({{"layer", layer}, {"kind", "pruned"}, {"hidden", vit.hidden}, {"kept", kept[l].size()}});
  }
  json assembly{{"method", "vbp"},
                {"pruned_share", 1.0 - static_cast<double>(keep) / static_cast<double>(all)},
                {"layers", std::move(layers)}};
  return write_assembly(inputs.model, tensors, {}, std::move(assembly), context, folder);
}

double expected_macs(const fs::path& folder) {
  const json assembly = json::parse(read_text_file(folder / kAssemblyFile), nullptr, false);
  if (assembly.is_discarded() || !assembly.contains("macs_per_image")) {
    fail(ExitCode::input, "{}: is damaged: run `moextract assemble` again", (folder / kAssemblyFile).string());
  }
  return assembly.at("macs_per_image");
}

}  // namespace moextract::stages
