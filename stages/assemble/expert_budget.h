// How many neurons each expert gets within the targets, and what a choice of sizes costs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/network.h"
#include "model/vit_params.h"
#include "stages/assemble/expert_ranking.h"

namespace moextract::stages {

/// Sizes of one layer's ranked experts.
using LayerSizes = std::vector<std::int64_t>;

class ExpertBudget {
 public:
  /// `layers`: those that are cut, ascending; `rankings`, `factors`: one for each; factors (budget sensitivity) may be
  /// empty. `dense_parameters`: of the whole trained model. All outlive it.
  ExpertBudget(const AssemblyChoices& choices, const model::VitParams& vit, const model::Network& dense,
               std::int64_t dense_parameters, std::span<const std::int64_t> layers,
               std::span<const ExpertRanking> rankings, std::span<const double> factors);

  /// The largest sizes by the rule that meet all targets; without a target those of params.share. Throws UserError
  /// (config) naming the key and the nearest that can be had if even the smallest miss one.
  std::vector<LayerSizes> choose();
  /// Of choose: the share p under the rule score_share.
  double share() const { return share_; }

  /// MACs of an image of the whole model.
  double macs(const std::vector<LayerSizes>& sizes) const;
  /// Mean share of hidden neurons a token uses over all layers, the router's products counted as neurons.
  double active_share(const std::vector<LayerSizes>& sizes) const;
  /// Parameters of the whole model.
  std::int64_t parameters(const std::vector<LayerSizes>& sizes) const;

  /// By how many the experts of a layer (by its place in `layers`) are more than its dense MLP's; often negative.
  std::int64_t added_parameters(std::size_t place, const LayerSizes& sizes) const;

  /// The kept neurons of each ranked expert of a layer (by its place in `layers`), ascending.
  std::vector<std::vector<std::int64_t>> neurons(std::size_t place, const LayerSizes& sizes) const;
  /// MACs of an image in one layer that is cut.
  double layer_macs(std::size_t place, const LayerSizes& sizes) const;

 private:
  bool one_matrix() const;
  /// Neurons of every expert, an uncut prefix expert's included.
  LayerSizes all_sizes(std::size_t place, const LayerSizes& sizes, std::int64_t unite) const;
  std::int64_t union_size(std::size_t place, const LayerSizes& sizes) const;
  double tokens(std::int64_t layer) const { return static_cast<double>(vit_.mlp_tokens(layer)); }

  const AssemblyChoices& choices_;
  const model::VitParams& vit_;
  const model::Network& dense_;
  std::int64_t dense_parameters_;
  std::span<const std::int64_t> layers_;
  std::span<const ExpertRanking> rankings_;
  std::span<const double> factors_;
  double share_ = 1;
};

/// The claims of a layer's ranked experts. `factor`: what the layer's scores are worth beside other layers'; under
/// elimination they are levelled between experts.
std::vector<moe::Claim> expert_claims(const AssembleParams& params, const ExpertRanking& ranking, std::int64_t layer,
                                      double factor);

/// Expected error of the experts' outputs at these sizes in the unit of their scores, per token of the layer.
double expected_error(const ExpertRanking& ranking, const LayerSizes& sizes);

}  // namespace moextract::stages
