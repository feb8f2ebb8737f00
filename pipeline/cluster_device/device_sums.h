// Exact sums of rows of each cluster on a device, in the words of SumWords: integers, so that the order in which a
// device adds them does not matter.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "cluster/lloyd_pass.h"

namespace moextract::cluster {

class DeviceSums {
 public:
  DeviceSums(const PassFacts& facts, const at::Device& device);

  /// The number that stands for no cluster: a row that was in none yet.
  std::int64_t none() const { return k_; }
  /// Moves rows ([n, dimension] float16 or float32, multiples of 2^-24) from clusters to clusters, [n] int64 each;
  /// `weights` [n] int64, undefined: all 1.
  void move(const at::Tensor& rows, const at::Tensor& from, const at::Tensor& to, const at::Tensor& weights);
  /// Sums, sizes and weights one after the other, as PassWords has them; int64 on the device.
  at::Tensor words() const;

 private:
  void add(std::int64_t plane, const at::Tensor& values, const at::Tensor& from, const at::Tensor& to,
           const at::Tensor& weights);

  std::int64_t k_;
  bool split_;
  at::Tensor sums_;             // [1, or 2 if split, k + 1, dimension] int64; the last cluster is none
  at::Tensor sizes_, weights_;  // [k + 1] int64
};

}  // namespace moextract::cluster
