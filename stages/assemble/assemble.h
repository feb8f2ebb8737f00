// Stage assemble: cuts experts out of the trained MLPs (MoEE), or prunes them (VBP), to a share or a budget.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "config/field_list.h"
#include "moe/assembler.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kAssembleVersion = 3;

enum class Method {
  variance,      ///< MoEE, arXiv 2505.15414: neurons by variance within clusters, routing by cosine to the mean input
  least_squares  ///< backward elimination and least squares on second moments, routing to the nearest centroid
};

struct AssembleParams {
  Method method = Method::variance;
  double share = 0.9;                 ///< share p of a cluster's summed score that its expert holds
  std::optional<double> target_macs;  ///< instead of share: MACs of the whole model / dense
  std::optional<double>
      target_active;  ///< instead of share: mean share of hidden neurons a token uses, router included
  std::optional<double> target_parameters;  ///< least_squares, shared storage: parameters of the whole model / dense
  moe::Storage storage = moe::Storage::shared;
  moe::Compensation compensation = moe::Compensation::mean_shift;
  std::int64_t min_neurons = 8;  ///< of an expert
  double ridge = 1e-3;           ///< least_squares: share of the mean variance added to the diagonal of second moments
  double fisher = 0.9;         ///< least_squares: share of the gradients' directions in the metric of the output error
  double pooled_tokens = 0.0;  ///< least_squares: tokens' worth of the layer's moments in those of each expert
  double expert_power = 0.5;   ///< least_squares: how far scores are levelled between a layer's experts
  double layer_power = 0.5;    ///< least_squares: weight of a layer's mean squared gradient in its scores
};
void describe(config::Section section, AssembleParams& params);

/// Variance-based pruning (VBP, arXiv 2507.12988), the baseline.
struct VbpParams {
  std::optional<double> share;        ///< share of all hidden neurons pruned
  std::optional<double> target_macs;  ///< MACs of the whole model / dense; neither given: the MACs of the experts
  moe::Compensation compensation = moe::Compensation::mean_shift;
  std::int64_t min_neurons = 8;  ///< kept in each layer
};
void describe(config::Section section, VbpParams& params);

struct AssembleInputs {
  const moe::LoadedModel& model;
  std::vector<std::filesystem::path> shards;
  std::filesystem::path clusters;  ///< folder of the cluster stage; not used by VBP
  std::filesystem::path moments;   ///< folder of the moments stage; least_squares only
};

/// Files an assemble artefact holds.
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kAssemblyFile = "assembly.json";

/// Collective. Writes the model with experts and assembly.json: for each layer k, sizes, union, expected token shares;
/// the share p used; expected MACs (by the recorded rows' routing) and parameters.
nlohmann::json assemble_experts(const AssembleParams& params, const AssembleInputs& inputs, run::Context& context,
                                const std::filesystem::path& folder);

/// Collective. Writes the pruned model. `equal_macs`: MACs of one image to meet where neither share nor target_macs is
/// given.
nlohmann::json assemble_vbp(const VbpParams& params, const AssembleInputs& inputs, std::optional<double> equal_macs,
                            run::Context& context, const std::filesystem::path& folder);

/// Expected MACs of an image of an assemble artefact.
double expected_macs(const std::filesystem::path& folder);

}  // namespace moextract::stages
