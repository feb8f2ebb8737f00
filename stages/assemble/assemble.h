// Stage assemble: cuts experts out of the trained MLPs, or prunes them (VBP), to a share or a budget.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/assembler.h"
#include "moe/model_file.h"
#include "moe/neuron_score.h"
#include "moe/router_fit.h"
#include "moe/size_rule.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kAssembleVersion = 5;

/// Presets: what `automatic` means for every other choice.
enum class Method {
  variance,      ///< MoEE, arXiv 2505.15414: neurons by variance within clusters, routing by cosine to the mean input
  least_squares  ///< backward elimination and least squares on second moments, routing to the nearest centroid
};

/// Where an expert's statistics come from.
enum class Statistics {
  automatic,  ///< streamed where second moments are needed, otherwise recorded
  recorded,   ///< the recorded sample of tokens, by the cluster each is labelled with
  streamed    ///< all tokens of all calibration images, by where the router sends them (stage moments)
};

/// What becomes of a layer with one cluster.
enum class OneCluster {
  automatic,  ///< dense with recorded statistics (MoEE), pruned with streamed ones
  dense,
  pruned  ///< one expert for all tokens, cut like any other
};

/// Whether layers are fitted one after the other, each to what the compressed ones before it leave.
enum class Sequential {
  off,
  experts,  ///< layers that are cut repair the residual stream, too
  all       ///< and layers and experts that keep all neurons
};

struct MomentsParams;

struct AssembleParams {
  Method method = Method::variance;
  Statistics statistics = Statistics::automatic;
  moe::Score score = moe::Score::automatic;
  moe::Budget budget = moe::Budget::automatic;
  double share = 0.9;                       ///< share p of an expert's summed score, where no target is given
  std::optional<double> target_macs;        ///< MACs of the whole model / dense
  std::optional<double> target_active;      ///< mean share of hidden neurons a token uses, router included
  std::optional<double> target_parameters;  ///< parameters of the whole model / dense
  moe::Compensation compensation = moe::Compensation::automatic;
  moe::Storage storage = moe::Storage::shared;
  std::int64_t rank = 8;  ///< low_rank storage: of each expert's correction
  OneCluster one_cluster = OneCluster::automatic;
  bool static_layers = false;    ///< layers in which routing gains nothing at equal MACs get one expert for all tokens
  std::int64_t min_neurons = 8;  ///< of an expert
  std::int64_t min_tokens = 0;   ///< an expert with fewer takes the statistics of the whole layer
  double ridge = 1e-3;           ///< share of the mean variance added to the diagonal of second moments
  double fisher = 0.9;           ///< elimination: share of the gradients' directions in the metric of the output error
  double pooled_tokens = 0.0;    ///< tokens' worth of the layer's moments in those of each expert
  double expert_power = 0.5;     ///< elimination: how far scores are levelled between a layer's experts
  double layer_power = 0.5;      ///< elimination: weight of a layer's mean squared gradient in its scores
  std::int64_t sensitivity_images = 128;  ///< budget sensitivity: calibration images that each layer is tried on
  double sensitivity_share = 0.5;         ///< budget sensitivity: neurons kept in the layer that is tried
  std::uint64_t seed = 1;                 ///< score random
  Sequential sequential = Sequential::off;
  std::optional<double> sequential_ridge;  ///< of the repair; none: chosen by two halves of the images
  double stream_gb = 4.0;                  ///< of a rank, for streams kept from layer to layer
};
void describe(config::Section section, AssembleParams& params);

/// The choices with nothing left open.
struct AssemblyChoices {
  AssembleParams params;     ///< no `automatic` in it
  moe::RouterParams router;  ///< the same
  bool needs_covariance = false;

  bool streamed() const { return params.statistics == Statistics::streamed; }
  bool sequential() const { return params.sequential != Sequential::off; }
  bool class_token_apart() const { return router.class_token != moe::ClassToken::routed; }
};
/// Settles what is `automatic` and checks that all goes together. Throws UserError (config) naming the keys.
AssemblyChoices settle(const AssembleParams& params, const moe::RouterParams& router, bool has_prefix_tokens);

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
  std::filesystem::path clusters;          ///< folder of the cluster stage; recorded statistics only
  std::filesystem::path moments;           ///< folder of the moments stage; streamed statistics only
  std::string identity;                    ///< of the model, as the shards and moments name it; empty: not checked
  const data::ImageSet* images = nullptr;  ///< calibration; budget sensitivity and sequential fit only
  std::int64_t micro_batch = 8;
  const MomentsParams* sampling = nullptr;  ///< sequential fit only: flip, importance, seed, micro-batches
  model::BadImages bad_images = model::BadImages::stop;
  std::string tap = {};  ///< what was clustered, as the moments name it; empty: not checked
};

/// Files an assemble artefact holds.
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kAssemblyFile = "assembly.json";

/// Collective. Writes the model with experts and assembly.json: for each layer k, sizes, union, expected token shares;
/// the choices; expected MACs (by the calibration tokens' routing) and parameters, counted over the built model and
/// asserted to be what the budget counted.
nlohmann::json assemble_experts(const AssemblyChoices& choices, const AssembleInputs& inputs, run::Context& context,
                                const std::filesystem::path& folder);

/// Collective. Writes the pruned model. `equal_macs`: MACs of one image to meet where neither share nor target_macs is
/// given.
nlohmann::json assemble_vbp(const VbpParams& params, const AssembleInputs& inputs, std::optional<double> equal_macs,
                            run::Context& context, const std::filesystem::path& folder);

/// Expected MACs of an image of an assemble artefact.
double expected_macs(const std::filesystem::path& folder);

}  // namespace moextract::stages
