// The tensors of one layer with experts, from a choice of neurons and second moments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"
#include "moe/expert_router.h"
#include "moe/second_moments.h"

namespace moextract::moe {

enum class Storage {
  shared,      ///< one copy of each neuron that any expert uses, one output matrix; experts refer to rows
  own_output,  ///< input weights shared, each expert has its own output weights
  low_rank,    ///< one output matrix and a correction of low rank for each expert
  separate     ///< each expert has its own copy of its neurons
};
enum class Compensation {
  automatic,     ///< mean_shift for MoEE, least_squares for least squares
  none,          ///< dropped neurons count as zero
  mean_shift,    ///< b2 of an expert += W2[:, dropped] mean_h[dropped], means over its tokens (VBP's shift, per expert)
  least_squares  ///< output weights refitted on second moments, and the shift
};

/// What becomes of the first tokens of each image (the class token).
enum class PrefixExpert {
  none,   ///< they are routed like the others
  dense,  ///< an expert of their own with all neurons unchanged; with one shared matrix with all that others have
  cut     ///< an expert of their own, cut like the others
};

/// What determines the layer.
struct FittedLayerSpec {
  std::int64_t layer = 0;
  RouterWeights router;
  std::vector<std::vector<std::int64_t>> neurons;  ///< kept neurons of each routed expert, and of the prefix expert if
                                                   ///< it is cut; ascending, not empty
  std::int64_t prefix_tokens = 0;                  ///< of each image
  PrefixExpert prefix = PrefixExpert::none;
  Storage storage = Storage::shared;
  Compensation compensation = Compensation::none;
  std::int64_t rank = 0;  ///< low_rank: of the corrections
  double ridge = 1e-3;

  /// Whether all experts use one output matrix.
  bool shares_output() const { return storage == Storage::shared || storage == Storage::low_rank; }
};

/// The neurons of every expert, an uncut prefix expert's included.
struct ExpertSets {
  std::vector<std::vector<std::int64_t>> neurons;  ///< [experts] ascending
  std::vector<std::int64_t> unite;                 ///< neurons that the layer stores, ascending
  /// Of an expert's neurons in `unite`.
  std::vector<std::int64_t> places(std::size_t expert) const;
};
ExpertSets expert_sets(const FittedLayerSpec& spec, std::int64_t hidden);

struct Deviation;
/// What is added to the fitted output weights and biases to make up for deviations of the stream (stream_repair.h).
struct OutputRepair {
  std::vector<Deviation> deviations;  ///< [experts]
  at::Tensor map;        ///< [d, H] double: added to the trained output weights before routed experts are fitted
  double map_ridge = 0;  ///< that it was fitted with; infinite: it is zero
  std::vector<at::Tensor> weights;  ///< [experts] of [d, |S|] double; undefined: the expert is not repaired
  std::vector<double> ridges;       ///< [experts] that they were fitted with; infinite: the mean alone is made up for
  at::Tensor shared;                ///< [d, U] of one output matrix, whose columns `weights` are
};

/// Replaces the MLP tensors of the layer in `tensors` (layout: expert_mlp.h). `moments`: routed experts, then the
/// prefix tokens if they have an expert; covariances are needed for least squares. Output weights with least squares:
/// W_S + W_B C_BS (C_SS + r I)^-1; jointly for shared storage: the D that solves (sum_e m_e C_e,SS + r I) D^T = sum_e
/// m_e (W_B C_BS)^T, m_e the weight of the expert's tokens; with low_rank the best correction of rank r of these
/// towards the expert's own, in the metric of C_SS. Output bias of each expert: b2 + W mean - W_S' mean_S. In double.
/// One routed expert without a prefix expert gives a pruned MLP without a router. Returns the expected squared output
/// error of each routed expert as a share of tr(W C W^T); nothing without covariances. `repair` adds to the weights,
/// and errors are then of the trained MLP's output plus the deviation.
std::vector<double> fit_layer(const FittedLayerSpec& spec, std::span<const SecondMoments> moments,
                              model::TensorMap& tensors, const OutputRepair* repair = nullptr);

/// Floating-point numbers of a layer that fit_layer writes. `sizes`: neurons of each expert, the prefix expert's
/// included; `unite`: of their union; `router`: router_parameters. Of `spec` storage, compensation and rank count.
std::int64_t layer_parameters(const FittedLayerSpec& spec, std::span<const std::int64_t> sizes, std::int64_t unite,
                              std::int64_t width, std::int64_t router);

}  // namespace moextract::moe
