#include "cluster_device/device_scores.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <cmath>
#include <vector>

#include "core/error.h"

namespace moextract::cluster {
namespace {

// A float at least as large as a value that is not negative.
float round_up(double value) {
  return static_cast<float>(value * (1 + 0x1.0p-22)) + 1e-37f;
}

at::Tensor to_device(std::vector<float>& values, at::IntArrayRef shape, const at::Device& device) {
  // A clone, for the CPU "device" would go on reading the vector.
  return at::from_blob(values.data(), shape, at::TensorOptions(at::kFloat)).clone().to(device);
}

// TF32 and its like round the factors; the bound knows of no such thing. On CUDA NoTF32Guard sees to it.
void refuse_rounded_products(const at::Device& device) {
  if (!device.is_cpu()) return;
  const at::Float32Precision precision =
      at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL);
  MOEX_ASSERT(precision == at::Float32Precision::NONE || precision == at::Float32Precision::IEEE,
              "LibTorch is set to round the factors of float32 products");
}

}  // namespace

DeviceScores::DeviceScores(const NearestCentroids& nearest, const at::Device& device) {
  refuse_rounded_products(device);
  const std::int64_t k = nearest.size(), d = nearest.dimension();
  MOEX_ASSERT(d <= kMostDeviceDimension, "the error bound does not hold for rows this long");
  const std::span<const float> values = nearest.centroids(), centre = nearest.centre();
  std::vector<float> centred(values.size()), offsets, reach, slack;
  for (std::int64_t c = 0; c < k; ++c) {
    double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) {
      const auto i = static_cast<std::size_t>(c * d + j);
      // Exact: both lie on the grid of 2^-36 and below 2^17.
      const double y = static_cast<double>(values[i]) - static_cast<double>(centre[static_cast<std::size_t>(j)]);
      squares += y * y;
      centred[i] = static_cast<float>(y);
    }
    offsets.push_back(static_cast<float>(nearest.offset(c)));
    reach.push_back(round_up(2.5 * static_cast<double>(d + 16) * 0x1.0p-24 * std::sqrt(squares) * (1 + 1e-9)));
    slack.push_back(round_up(0x1.0p-21 * nearest.offset(c)));
  }
  std::vector<float> middle(centre.begin(), centre.end());
  centre_ = to_device(middle, {d}, device);
  centroids_ = to_device(centred, {k, d}, device);
  offsets_ = to_device(offsets, {k}, device);
  reach_ = to_device(reach, {k}, device);
  slack_ = to_device(slack, {k}, device);
}

ScoreBounds DeviceScores::bounds(const RowChunk& chunk) const {
  const at::NoTF32Guard exact_factors;
  const at::Tensor products = at::mm(chunk.rows.to(at::kFloat).sub(centre_), centroids_.t());
  // Not by addmm: a library may begin its sum with the offset, and the bound speaks of the product alone.
  const at::Tensor scores = at::sub(offsets_, products, 2);
  const at::Tensor error = at::addcmul(slack_, chunk.lengths.unsqueeze(1), reach_);
  return {scores - error, scores + error};
}

Verdict DeviceScores::judge(const RowChunk& chunk) const {
  const ScoreBounds scores = bounds(chunk);
  Verdict verdict;
  verdict.candidates = scores.lower.le(scores.upper.amin(at::IntArrayRef{1}, true));
  verdict.counts = verdict.candidates.sum(at::OptionalIntArrayRef{1}, false, at::kLong);
  // Where one is left, its lower end is the least: those of all others lie above some upper end.
  verdict.labels = scores.lower.argmin(1);
  return verdict;
}

}  // namespace moextract::cluster
