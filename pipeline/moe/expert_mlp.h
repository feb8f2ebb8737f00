// The MLP of a block as k experts with a top-1 router. Tensors of a layer in a model file, prefix blocks.<l>.mlp.:
//
//   router.weight     [r, d]      routing keys; r = k, or k - 1 with a prefix expert
//   router.bias       [r]         optional: added to the products; without it keys have unit length (cosine routing)
//   experts.offsets   [k + 1]     int32: expert e owns entries offsets[e] .. offsets[e+1]-1 of experts.neurons
//   experts.neurons   [sum |S|]   int32: the trained network's neuron that each entry is
//   fc2.bias          [k, d]      an output bias for each expert, or [d]: one for all
//   experts.prefix    [2]         optional, int32: {expert, tokens}: the first `tokens` tokens of each image (the class
//                                 token) go to `expert`, which must be the last and has no key
//   shared storage:   experts.rows [sum |S|] int32: row of fc1 (column of fc2) that each entry uses;
//                     fc1.weight [U, d], fc1.bias [U], fc2.weight [d, U], U = size of the union;
//                     or, instead of fc2.weight, experts.fc2.weight [d, sum |S|]: each expert's own output weights
//                     with fc2.weight optionally experts.low_rank.left [k, d, r] and experts.low_rank.right [r, sum
//                     |S|]: their product is added to each expert's output weights;
//   separate storage: fc1.weight [sum |S|, d], fc1.bias [sum |S|], fc2.weight [d, sum |S|]
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/mlp.h"
#include "model/weights.h"

namespace moextract::moe {

class ExpertMlp : public model::Mlp {
 public:
  /// From the tensors of a layer as above. Gathers each expert's rows into contiguous weights; when gradients are
  /// recorded, they flow back to the shared rows. `precision` is that of inference (see model::Linear); the router's
  /// products are float32 in all of them.
  ExpertMlp(std::int64_t layer, const model::TensorMap& tensors,
            model::Precision precision = model::Precision::float32);

  at::Tensor forward(const at::Tensor& x, model::MlpTrace* trace) const override;
  std::int64_t experts() const override { return static_cast<std::int64_t>(experts_.size()); }
  double macs_per_token(std::span<const double> token_share) const override;
  double active_neurons(std::span<const double> token_share) const override;

  std::int64_t expert_size(std::int64_t expert) const;

 private:
  struct Expert {
    model::Linear first, second;
    model::Lazy<model::PackedMlp> packed;
    std::int64_t size() const { return first.weight().size(0); }
  };
  /// Inference on a CPU, split over threads by expert and block of tokens.
  at::Tensor infer(const at::Tensor& tokens, const at::Tensor& expert_of) const;

  model::Precision precision_;
  at::Tensor keys_, key_bias_;
  model::Lazy<model::PackedLinear> packed_keys_;
  std::int64_t prefix_tokens_ = 0;  // of each image: they go to the last expert
  std::vector<Expert> experts_;
};

/// Makes what a layer's tensors describe: experts where there is a router, else the dense (or pruned) MLP.
std::unique_ptr<model::Mlp> make_mlp(std::int64_t layer, const model::TensorMap& tensors,
                                     model::Precision precision = model::Precision::float32);

/// Numbers of a layer for tables.
struct LayerSummary {
  std::int64_t layer = 0;
  std::int64_t k = 0;               ///< 0: dense or pruned
  std::vector<std::int64_t> sizes;  ///< |S_c|
  std::int64_t union_size = 0;      ///< neurons of the trained MLP that are left
};
LayerSummary summarise_layer(std::int64_t layer, const model::TensorMap& tensors);

/// Neurons that two experts share: [k][k], the sizes on the diagonal; empty for a dense layer.
std::vector<std::vector<std::int64_t>> expert_overlaps(std::int64_t layer, const model::TensorMap& tensors);

}  // namespace moextract::moe
