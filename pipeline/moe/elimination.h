// Backward elimination: in which order an expert's neurons can go, each removal compensated by the ones that stay.
//
// Source: optimal brain surgeon (Hassibi and Stork 1993) on the MLP's second product. For weights W [d, H] and the
// covariance C of h, dropping a set B and refitting the rest raises the expected squared output error by the least of
// all linear compensations. With P = (C + r I)^-1 and W kept refitted, removing j costs |W_j|^2 / P_jj.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace moextract::moe {

struct EliminationParams {
  double ridge = 1e-3;      ///< r as a share of the mean diagonal of C
  std::int64_t block = 16;  ///< neurons removed at a time
};

/// Neurons in the order of their removal, and what each removal costs.
struct EliminationOrder {
  std::vector<std::int64_t> neurons;  ///< [H], the first removed first
  std::vector<double> cost;  ///< [H] rise of the expected squared output error per token; does not fall along the order
};

/// W [d, H] and C [H, H] double. Dead neurons (zero variance) go first, at no cost. O(H^3) operations.
/// C + r I as in ridge_factor(), which throws if its values are not finite.
EliminationOrder eliminate(const at::Tensor& w, const at::Tensor& covariance, const EliminationParams& params);

/// Weights of the kept neurons [d, |kept|] that give the least expected squared output error: W_S + W_B C_BS (C_SS + r
/// I)^-1.
at::Tensor refit(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept, double ridge);

/// Expected squared output error per token of `refitted` weights on `kept` against W: tr(D C D^T), D = W - refitted.
double output_error(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept,
                    const at::Tensor& refitted);

}  // namespace moextract::moe
