// A layer's router as weights: scores of the experts for a token, and which experts it goes to. Tensors of a model
// file, prefix blocks.<l>.mlp.:
//
//   router.weight         [k, d], with a hidden layer [k, r]; router.bias [k] optional
//   router.hidden.weight  [r, d], router.hidden.bias [r]: optional, a hidden layer with GELU before the keys
//   router.top            [2] int32: optional: experts a token goes to at most, and tau in millionths; absent: one
//   router.temperature    [1]: beside router.top
//   router.random         [2] int32: optional control: a seed (low and high half); tokens go anywhere
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "model/weights.h"

namespace moextract::moe {

struct RouterWeights {
  at::Tensor keys, bias;                  ///< [k, d] or [k, r]; [k] or undefined
  at::Tensor hidden_weight, hidden_bias;  ///< [r, d], [r]; undefined without a hidden layer
  std::int64_t top_k = 1;                 ///< experts a token goes to at most
  double tau = 1;          ///< dynamic k (D2DMoE, Szatkowski et al. 2024): expert e runs iff p_e >= (1 - tau) max p
  double temperature = 1;  ///< p = softmax(scores / temperature)
  std::optional<std::uint64_t> random_seed;  ///< control: tokens go to random experts

  std::int64_t experts() const { return keys.size(0); }
  std::int64_t width() const { return hidden_weight.defined() ? hidden_weight.size(1) : keys.size(1); }
  /// More than a top-1 choice by products with keys.
  bool is_plain() const { return !hidden_weight.defined() && top_k == 1 && !random_seed; }
};

/// [n, k] float32 of x [n, d].
at::Tensor router_scores(const RouterWeights& router, const at::Tensor& x);

/// softmax(scores / temperature), [n, k] double.
at::Tensor router_probabilities(const RouterWeights& router, const at::Tensor& x);

/// Where tokens go. m = top_k, or one expert fewer than that where there are fewer.
struct Choice {
  at::Tensor expert;  ///< [n, m] int64, the best first; -1: no more for this token
  at::Tensor gate;    ///< [n, m] float32: shares of the experts' answers, of sum 1; 0 where there is none
};
/// The lowest index on ties. Each token's choice depends on its own x alone. The random control deals by a hash of x.
Choice choose_experts(const RouterWeights& router, const at::Tensor& x);

/// The same for x [images, tokens, d], [images * tokens, m], but the first `prefix` tokens of each image are not
/// routed: they go to expert k, which has no key.
Choice deal_tokens(const RouterWeights& router, const at::Tensor& x, std::int64_t prefix);

/// Multiply-accumulates of one token that is routed; none where there is nothing to choose or it is left to chance.
double router_macs(const RouterWeights& router);
/// Floating-point numbers that put_router writes.
std::int64_t router_parameters(const RouterWeights& router);

void put_router(const std::string& prefix, const RouterWeights& router, model::TensorMap& tensors);
/// Tensors are as checked by load_model.
RouterWeights get_router(const std::string& prefix, const model::TensorMap& tensors);

}  // namespace moextract::moe
