// Experts whose answers are mixed: a token goes to several of them, or to those that a chooser of the caller's names.
// ExpertMlp is the fast form of the plain top-1 case.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/mlp.h"
#include "moe/expert_router.h"
#include "moe/expert_weights.h"

namespace moextract::moe {

/// Where the routed tokens x [n, d] go; prefix tokens are not asked about.
using Chooser = std::function<Choice(const at::Tensor& x)>;

class MixtureMlp : public model::Mlp {
 public:
  /// From the tensors of a layer with experts (layout: expert_mlp.h, expert_router.h). `chooser` (optional) takes the
  /// place of the layer's router, for controls; its cost is then not counted.
  MixtureMlp(std::int64_t layer, const model::TensorMap& tensors, Chooser chooser = {});

  /// y = sum over the chosen experts of gate * answer. Gradients do not flow into gates.
  at::Tensor forward(const at::Tensor& x, model::MlpTrace* trace) const override;
  std::int64_t experts() const override { return static_cast<std::int64_t>(experts_.size()); }
  /// `token_share[e]`: share of the tokens that go to expert e, among others perhaps: they sum to the mean number of
  /// experts a token.
  double macs_per_token(std::span<const double> token_share) const override;
  double active_neurons(std::span<const double> token_share) const override;

 private:
  RouterWeights router_;
  Chooser chooser_;
  bool counts_router_ = true;
  std::int64_t prefix_tokens_ = 0;  // of each image: they go to the last expert
  std::vector<ExpertWeights> experts_;
};

}  // namespace moextract::moe
