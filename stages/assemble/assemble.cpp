#include "stages/assemble/assemble.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/render.h"
#include "core/error.h"
#include "core/file.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "stages/assemble/fit_experts.h"
#include "stages/assemble/layer_statistics.h"
#include "stages/assemble/sequential.h"
#include "stages/cluster/cluster.h"
#include "stages/moments/layer_router.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// Writes model and assembly.json from rank 0; the expected MACs are counted over the built network itself.
json write_assembly(const moe::LoadedModel& source, const model::TensorMap& tensors, const model::TokenShares& shares,
                    json assembly, double budget_macs, std::int64_t budget_parameters, run::Context& context,
                    const fs::path& folder) {
  const auto network = moe::make_network(source.description, tensors);
  const auto dense = moe::make_network(source.description, source.tensors);
  const double macs = model::macs_per_image(*network, shares), dense_macs = model::macs_per_image(*dense, {});
  const std::int64_t parameters = model::count_parameters(tensors);
  MOEX_ASSERT(std::abs(macs - budget_macs) <= 1e-9 * macs, "the budget counted other MACs than the built model has");
  MOEX_ASSERT(parameters == budget_parameters, "the budget counted other parameters than the built model has");
  assembly["macs_per_image"] = macs;
  assembly["dense_macs_per_image"] = dense_macs;
  assembly["parameters"] = parameters;
  assembly["dense_parameters"] = model::count_parameters(source.tensors);
  context.comm.together([&] {
    if (!context.comm.is_root()) return;
    moe::save_model(folder / kModelFile, source.description, tensors, {{"moextract.assembly", assembly.dump()}});
    write_file_atomically(folder / kAssemblyFile, assembly.dump(2) + "\n");
  });
  context.log->info("assemble: {:.3f} of the dense MACs and {:.3f} of the parameters", macs / dense_macs,
                    static_cast<double>(parameters) / static_cast<double>(model::count_parameters(source.tensors)));
  return {{"macs_per_image", macs}, {"parameters", assembly["parameters"]}};
}

std::vector<store::ShardExtent> open_shards(const AssembleInputs& inputs, run::Context& context) {
  std::vector<store::ShardExtent> shards;
  context.comm.together([&] {
    shards = store::list_shards(inputs.shards);
    if (!shards.empty() && !inputs.identity.empty()) {
      const std::string made_by = store::ShardReader(shards.front().path).info().model_hash;
      if (made_by != inputs.identity) {
        fail(ExitCode::input,
             "{}: holds activations of another model ({} instead of {}): run `moextract collect` again",
             shards.front().path.string(), made_by, inputs.identity);
      }
    }
    if (shards.empty() || shards.back().first_global + shards.back().rows == 0) {
      fail(ExitCode::input, "the shards hold no rows: run `moextract collect` with more images or tokens");
    }
  });
  return shards;
}

/// Collective. What the recorded tokens of each cluster tell, and a router fitted to them.
std::vector<LayerMoments> recorded_moments(const AssemblyChoices& choices, const AssembleInputs& inputs,
                                           run::Context& context) {
  const std::vector<store::ShardExtent> shards = open_shards(inputs, context);
  const std::int64_t depth = inputs.model.description.vit.depth;
  std::vector<std::int64_t> layers;
  for (std::int64_t layer = 0; layer < depth; ++layer) layers.push_back(layer);
  const std::vector<LayerRouter> routers =
      fit_layer_routers(choices.router, layers, inputs.clusters, inputs.shards, context);
  const LabelsOf labels = [&](std::int64_t layer, std::int64_t* k) {
    LayerClusters clusters = load_layer_clusters(inputs.clusters, layer);
    *k = std::max<std::int64_t>(clusters.k, 1);
    return std::move(clusters.labels);
  };
  const std::vector<LayerStatistics> statistics = gather_statistics(shards, depth, labels, routers, context);
  std::vector<LayerMoments> all;
  for (std::size_t l = 0; l < statistics.size(); ++l) {
    LayerMoments moments;
    moments.router = routers[l].weights;
    moments.agreement = routers[l].agreement;
    moments.experts = moe::as_second_moments(statistics[l].moments);
    moments.token_share = statistics[l].token_share;
    all.push_back(std::move(moments));
  }
  return all;
}

/// The settled choices by the names that the configuration knows them by.
json choices_text(const AssemblyChoices& choices) {
  AssembleParams params = choices.params;
  moe::RouterParams router = choices.router;
  config::FieldList fields;
  config::Section root = fields.root();
  describe(root.section("assemble", ""), params);
  describe(root.section("router", ""), router);
  const json all = config::to_json(fields, /*only_results=*/true);
  json text = json::object();
  for (const char* name : {"statistics", "score", "budget", "compensation", "storage", "one_cluster"})
    text[name] = all["assemble"][name];
  if (choices.sequential()) text["sequential"] = all["assemble"]["sequential"];
  text["router"] = all["router"]["kind"];
  for (const char* name : {"class_token", "top_k", "tau"}) text[name] = all["router"][name];
  return text;
}

}  // namespace

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

json assemble_experts(const AssemblyChoices& choices, const AssembleInputs& inputs, run::Context& context,
                      const fs::path& folder) {
  std::vector<LayerMoments> recorded;
  if (!choices.streamed()) recorded = recorded_moments(choices, inputs, context);
  const MomentsOf moments = [&](std::int64_t layer) {
    return choices.streamed() ? load_layer_moments(inputs.moments, layer) : recorded[static_cast<std::size_t>(layer)];
  };
  model::TensorMap tensors = inputs.model.tensors;
  FittedModel fitted = fit_experts(choices, inputs, moments, context, tensors);
  json assembly = std::move(fitted.facts);
  if (choices.sequential()) {
    const json facts = fit_sequentially(choices, inputs, fitted.layers, context, folder, tensors);
    for (json& layer : assembly["layers"]) {
      if (const auto found = facts.find(std::to_string(layer["layer"].get<std::int64_t>())); found != facts.end())
        layer.update(*found);
    }
  }
  assembly["method"] = choices.params.method == Method::variance ? "moee" : "least_squares";
  assembly["choices"] = choices_text(choices);
  return write_assembly(inputs.model, tensors, fitted.shares, std::move(assembly), fitted.macs, fitted.parameters,
                        context, folder);
}

json assemble_vbp(const VbpParams& params, const AssembleInputs& inputs, std::optional<double> equal_macs,
                  run::Context& context, const fs::path& folder) {
  const std::vector<store::ShardExtent> shards = open_shards(inputs, context);
  const model::VitParams& vit = inputs.model.description.vit;
  const LabelsOf one_cluster = [](std::int64_t, std::int64_t* k) {
    *k = 1;
    return std::vector<std::int32_t>();
  };
  const std::vector<LayerStatistics> statistics = gather_statistics(shards, vit.depth, one_cluster, {}, context);
  const auto dense = moe::make_network(inputs.model.description, inputs.model.tensors);
  const std::int64_t all = vit.depth * vit.hidden;
  std::vector<std::vector<double>> variance;
  for (const LayerStatistics& layer : statistics) {
    variance.push_back(layer.moments.h_variance);
    // A short last block: its neurons cost one token each, and the statistics are mostly of tokens that it drops.
    const auto l = static_cast<std::int64_t>(variance.size()) - 1;
    if (vit.mlp_tokens(l) <= vit.prefix_tokens())
      variance.back().assign(variance.back().size(), std::numeric_limits<double>::infinity());
  }
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
           "costs {:.5g}",
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
  std::int64_t pruned = 0;
  for (const auto& set : kept) pruned += vit.hidden - static_cast<std::int64_t>(set.size());
  json assembly{{"method", "vbp"},
                {"pruned_share", static_cast<double>(pruned) / static_cast<double>(all)},
                {"layers", std::move(layers)}};
  const std::int64_t parameters = model::count_parameters(inputs.model.tensors) - pruned * (2 * vit.width + 1);
  return write_assembly(inputs.model, tensors, {}, std::move(assembly), macs_of(keep), parameters, context, folder);
}

double expected_macs(const fs::path& folder) {
  const json assembly = json::parse(read_text_file(folder / kAssemblyFile), nullptr, false);
  if (assembly.is_discarded() || !assembly.contains("macs_per_image")) {
    fail(ExitCode::input, "{}: is damaged: run `moextract assemble` again", (folder / kAssemblyFile).string());
  }
  return assembly.at("macs_per_image");
}

}  // namespace moextract::stages
