// Second moments of hidden values, expert by expert, streamed over all tokens: what selection by expected output error
// and least-squares compensation need.
//
// A micro-batch's products are float32 (one thread, fixed order), on a device float64; each becomes integers of 2^-24
// units, and integers are summed: the result is the same bits on any number of ranks and threads. Error of a sum of n
// products: n_batches * 2^-25 absolute from the rounding to units, beside the float32 products' own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "comm/communicator.h"

namespace moextract::moe {

/// Moments of one expert's tokens, each token with a weight.
struct SecondMoments {
  std::int64_t count = 0;  ///< tokens
  double weight = 0;       ///< sum of their weights
  at::Tensor mean;         ///< [H] double: weighted mean of h
  at::Tensor covariance;   ///< [H, H] double: weighted mean of (h - mean)(h - mean)^T; undefined if not gathered
  at::Tensor variance;     ///< [H] double: its diagonal
};

/// Moments of two sets of tokens together: what lies between their means counts.
SecondMoments unite_moments(const SecondMoments& a, const SecondMoments& b);

/// How much of the second moments is summed.
enum class Extent {
  full,     ///< all products of two hidden values
  diagonal  ///< squares alone
};

/// Bytes of the sums of one expert.
double moment_sum_bytes(std::int64_t hidden, Extent extent);

/// Sums of one layer. Memory: experts * moment_sum_bytes.
class SecondMomentSums {
 public:
  SecondMomentSums(std::int64_t experts, std::int64_t hidden, Extent extent = Extent::full);

  /// Adds the tokens of one micro-batch: h [n, H] float32, expert [n] int64 (negative: left out), weight [n] float32,
  /// not negative. May be called by several threads at once. Throws UserError (numerics) if a value is not finite or
  /// too large. On a device (all three tensors in its memory) the sums stay there until all_reduce(): H x H x 8 bytes
  /// an expert.
  void add(const at::Tensor& h, const at::Tensor& expert, const at::Tensor& weight);
  /// Collective: sums over ranks, in host memory. Comes before moments().
  void all_reduce(comm::Communicator& comm);
  SecondMoments moments(std::int64_t expert) const;
  std::int64_t experts() const { return static_cast<std::int64_t>(parts_.size()); }

 private:
  struct Part {
    std::mutex mutex;
    std::vector<std::int64_t> sums;  // lower triangle row by row or squares, then sum of h, then weight, then count
    at::Tensor on_device;  // int64, not yet in `sums`: all products or squares, sum of h, weight; often undefined
  };
  void add_by_tensors(const at::Tensor& h, const at::Tensor& expert, const at::Tensor& weight);
  /// Brings to the host what a device holds.
  void fetch(Part& part);
  std::int64_t products() const { return extent_ == Extent::full ? hidden_ * (hidden_ + 1) / 2 : hidden_; }

  std::int64_t hidden_;
  Extent extent_;
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace moextract::moe
