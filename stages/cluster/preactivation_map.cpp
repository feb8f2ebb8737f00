#include "stages/cluster/preactivation_map.h"

#include <algorithm>
#include <cmath>

#include "cluster/symmetric_eigen.h"
#include "core/error.h"

namespace moextract::stages {
namespace {

// A variance below this share of the largest is what rounding of the covariance leaves of none.
constexpr double kNoVariance = 1e-10;

/// Variance of w_j . x for each neuron j.
std::vector<double> preactivation_variances(const RowMap& first, const std::vector<double>& covariance,
                                            Workers& workers) {
  const std::int64_t width = first.inputs;
  std::vector<double> variances(static_cast<std::size_t>(first.outputs));
  workers.for_each(first.outputs, [&](std::int64_t j, int) {
    const float* w = first.weight.data() + j * width;
    double sum = 0;
    for (std::int64_t a = 0; a < width; ++a) {
      const double* row = covariance.data() + a * width;
      double inner = 0;
      for (std::int64_t b = 0; b < width; ++b) inner += row[b] * static_cast<double>(w[b]);
      sum += inner * static_cast<double>(w[a]);
    }
    variances[static_cast<std::size_t>(j)] = sum;
  });
  return variances;
}

}  // namespace

RowMap preactivation_map(const RowMap& first, const cluster::RowMoments& inputs, Workers& workers) {
  const std::int64_t width = first.inputs;
  MOEX_ASSERT(inputs.dimension == width, "moments of the inputs that W1 takes");
  const std::vector<double> variances = preactivation_variances(first, inputs.covariance, workers);
  const double least = kNoVariance * *std::max_element(variances.begin(), variances.end());
  std::vector<double> metric(static_cast<std::size_t>(width * width));
  workers.for_each(width, [&](std::int64_t a, int) {
    double* row = metric.data() + a * width;
    for (std::int64_t j = 0; j < first.outputs; ++j) {
      const double variance = variances[static_cast<std::size_t>(j)];
      if (variance <= least) continue;
      const float* w = first.weight.data() + j * width;
      const double scaled = static_cast<double>(w[a]) / variance;
      for (std::int64_t b = 0; b < width; ++b) row[b] += scaled * static_cast<double>(w[b]);
    }
  });
  const bool constant = std::all_of(metric.begin(), metric.end(), [](double value) { return value == 0; });
  for (std::int64_t a = 0; constant && a < width; ++a) metric[static_cast<std::size_t>(a * width + a)] = 1;
  const cluster::SymmetricEigen eigen = cluster::symmetric_eigen(std::move(metric), width);
  std::vector<double> root(static_cast<std::size_t>(width * width));
  workers.for_each(width, [&](std::int64_t a, int) {
    double* row = root.data() + a * width;
    for (std::int64_t e = 0; e < width; ++e) {
      const double* axis = eigen.vectors.data() + e * width;
      const double scaled = axis[a] * std::sqrt(std::max(0.0, eigen.values[static_cast<std::size_t>(e)]));
      for (std::int64_t b = 0; b < width; ++b) row[b] += scaled * axis[b];
    }
  });
  RowMap map{.outputs = width, .inputs = width, .weight = {}, .bias = {}};
  for (std::int64_t a = 0; a < width; ++a) {
    double mapped = 0;
    for (std::int64_t b = 0; b < width; ++b) {
      const double value = root[static_cast<std::size_t>(a * width + b)];
      map.weight.push_back(static_cast<float>(value));
      mapped += value * inputs.mean[static_cast<std::size_t>(b)];
    }
    map.bias.push_back(static_cast<float>(-mapped));
  }
  return map;
}

}  // namespace moextract::stages
