// The MLP of an encoder block: the part of the network that experts replace.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/lazy.h"
#include "model/linear.h"
#include "model/packed_mlp.h"
#include "model/weights.h"

namespace moextract::model {

/// What an MLP lets an observer see of one forward pass.
struct MlpTrace {
  bool wants_h = true;                 ///< set before the pass: whether h is kept, which a fast pass has no use for
  std::span<const std::int64_t> rows;  ///< set before the pass: the rows of h that are kept, ascending; empty: all

  at::Tensor x;         ///< [images, tokens, d] its input, after the block's second LayerNorm
  at::Tensor h;         ///< [images, tokens, H] hidden values after the GELU, or [rows, H]; undefined if the MLP has
                        ///< no dense h
  at::Tensor y;         ///< [images, tokens, d] its output
  at::Tensor residual;  ///< [images, tokens, d] the stream that y is added to
  at::Tensor expert;    ///< [images * tokens] int64, the expert each token went to; undefined for a dense MLP
};

class Mlp {
 public:
  virtual ~Mlp() = default;
  /// x: [images, tokens, d] -> [images, tokens, d]. `trace` (optional) says what is wanted and receives what happened.
  virtual at::Tensor forward(const at::Tensor& x, MlpTrace* trace) const = 0;
  /// Experts a token can go to; 0 for a dense MLP.
  virtual std::int64_t experts() const = 0;
  /// Multiply-accumulates of one token, the router's included, when `token_share[e]` of the tokens go to expert e
  /// (ignored by a dense MLP). Products only: bias, GELU and norms are not counted, as usual in the field.
  virtual double macs_per_token(std::span<const double> token_share) const = 0;
  /// Mean number of hidden neurons a token uses.
  virtual double active_neurons(std::span<const double> token_share) const = 0;
};

/// y = W2 GELU(W1 x + b1) + b2 with any number of hidden neurons: the trained MLP, or one pruned.
class DenseMlp : public Mlp {
 public:
  /// fc1_weight [H, d], fc1_bias [H], fc2_weight [d, H], fc2_bias [d].
  /// `precision` is that of inference (see Linear).
  DenseMlp(at::Tensor fc1_weight, at::Tensor fc1_bias, at::Tensor fc2_weight, at::Tensor fc2_bias,
           Precision precision = Precision::float32);
  at::Tensor forward(const at::Tensor& x, MlpTrace* trace) const override;
  std::int64_t experts() const override { return 0; }
  double macs_per_token(std::span<const double> token_share) const override;
  double active_neurons(std::span<const double> token_share) const override;

 private:
  Linear first_, second_;
  Precision precision_;
  Lazy<PackedMlp> packed_;  // made at the first inference: weights must not be changed in place after that
};

}  // namespace moextract::model
