// Moments of hidden values and inputs, cluster by cluster, exact: float16 values are integers times 2^-24, so their
// sums (64 bits) and sums of squares (128 bits) are integers, independent of order, block size and number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/workers.h"

namespace moextract::moe {

/// Means and population variances of one layer. k clusters, H hidden neurons, d inputs.
struct ClusterMoments {
  std::int64_t k = 0, hidden = 0, width = 0;
  std::vector<std::int64_t> count;  ///< [k] rows
  std::vector<double> h_mean;       ///< [k, H]
  std::vector<double> h_variance;   ///< [k, H], divided by the count
  std::vector<double> x_mean;       ///< [k, d]; empty clusters have zeros everywhere

  std::span<const double> h_mean_of(std::int64_t cluster) const { return row(h_mean, hidden, cluster); }
  std::span<const double> h_variance_of(std::int64_t cluster) const { return row(h_variance, hidden, cluster); }
  std::span<const double> x_mean_of(std::int64_t cluster) const { return row(x_mean, width, cluster); }

 private:
  static std::span<const double> row(const std::vector<double>& m, std::int64_t columns, std::int64_t r) {
    return std::span<const double>(m).subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns));
  }
};

class MomentSums {
 public:
  /// Memory: k (24 H + 8 d) bytes.
  MomentSums(std::int64_t k, std::int64_t hidden, std::int64_t width);
  /// Adds rows: h [n, H] and x [n, d] as float16 bits, labels [n] below k (asserted); rows of
  /// no cluster (negative) are left out. `x` may be empty.
  void add(std::span<const std::uint16_t> x, std::span<const std::uint16_t> h, std::span<const std::int32_t> labels,
           Workers& workers);
  ClusterMoments moments() const;

 private:
  std::int64_t k_, hidden_, width_;
  std::vector<std::int64_t> count_, h_sum_, x_sum_;
  std::vector<unsigned __int128> h_square_;
};

}  // namespace moextract::moe
