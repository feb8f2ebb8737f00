#include "cluster/bound_table.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace moextract::cluster {
namespace {

constexpr double kWiden = 1 + 0x1.0p-18;
// Sums of movements that leave less than half of the range to the distances themselves.
constexpr int kMostDrift = 32767;

std::int64_t padded(std::int64_t k) {
  return (k + kPanelCentroids - 1) / kPanelCentroids * kPanelCentroids;
}

}  // namespace

std::int64_t BoundTable::bytes_for(std::int64_t rows, std::int64_t k, std::int64_t most_bytes) {
  const std::int64_t bytes_a_row = 2 * (padded(k) + 1);
  return k > 1 && rows <= most_bytes / bytes_a_row ? rows * bytes_a_row : 0;
}

BoundTable::BoundTable(std::int64_t rows, std::int64_t k, std::int64_t most_bytes)
    : k_(k), padded_k_(padded(k)), kernels_(kernels()) {
  on_ = rows == 0 ? k > 1 : bytes_for(rows, k, most_bytes) > 0;
  if (!on_) return;
  lower_ = LargeArray<std::uint16_t>(static_cast<std::size_t>(rows * padded_k_));
  own_.resize(static_cast<std::size_t>(rows));
  drifts_.resize(static_cast<std::size_t>(padded_k_));
  last_.resize(static_cast<std::size_t>(padded_k_));
}

void BoundTable::start(double spread) {
  filled_ = false;
  if (!on_) return;
  const double unit = 16 * spread / 65535;
  per_unit_ = unit > 0x1.0p-60 ? static_cast<float>(1 / unit) : 0;
  if (per_unit_ == 0) {
    on_ = false;  // all centroids lie together: there is nothing to tell apart
    return;
  }
  std::fill(drifts_.begin(), drifts_.end(), std::uint16_t{0});
  std::fill(last_.begin(), last_.end(), std::uint16_t{0});
}

void BoundTable::move(std::span<const double> movements) {
  if (!is_filled()) return;
  for (std::size_t c = 0; c < movements.size(); ++c) {
    const double units = movements[c] == 0 ? 0 : std::ceil(movements[c] * static_cast<double>(per_unit_) * kWiden) + 1;
    if (!(units + drifts_[c] <= kMostDrift)) {
      filled_ = false;
      return;
    }
    last_[c] = static_cast<std::uint16_t>(units);
    drifts_[c] = static_cast<std::uint16_t>(drifts_[c] + last_[c]);
  }
}

std::int64_t BoundTable::suspects(std::int64_t row, std::int32_t label, std::span<std::int32_t> ids) const {
  const std::uint16_t own = own_[static_cast<std::size_t>(row)];
  std::int64_t count =
      kernels_.select_within(lower_.data() + row * padded_k_, drifts_.data(), own, padded_k_, ids.data());
  // Numbers beyond k and the row's own have the largest bound, which only such a reach covers.
  if (own >= kUnknown - kMostDrift) {
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      if (ids[i] < k_ && ids[i] != label) ids[kept++] = ids[i];
    }
    count = kept;
  }
  return count;
}

void BoundTable::set_own(std::int64_t row, std::int32_t label, const RoundedRow& rounded, float upper_score) {
  const double square = std::max(0.0, static_cast<double>(rounded.squares_most) + static_cast<double>(upper_score));
  const double units = std::ceil(std::sqrt(square) * static_cast<double>(per_unit_) * kWiden) + 1;
  own_[static_cast<std::size_t>(row)] = units < kUnknown ? static_cast<std::uint16_t>(units) : kUnknown;
  lower_[row * padded_k_ + label] = kUnknown;
}

void BoundTable::set_other(std::int64_t row, std::int32_t c, const RoundedRow& rounded, float lower_score) {
  // As distance_floors, whose unit less covers the roundings of the sum and the root.
  const float distance =
      std::sqrt(std::max(0.0f, rounded.squares_least + lower_score)) * static_cast<float>(per_unit_ / kWiden);
  const int units = std::max(0, static_cast<int>(std::min(distance, 65535.0f)) - 1) + drifts_[c];
  lower_[row * padded_k_ + c] = static_cast<std::uint16_t>(std::min(units, 65534));
}

void BoundTable::set_all(std::int64_t row, const RoundedRow& rounded, std::span<const float> lower_scores) {
  MOEX_ASSERT(static_cast<std::int64_t>(lower_scores.size()) == padded_k_, "scores are not [padded k]");
  // Subtracting a little covers the roundings of the sum and the root.
  kernels_.distance_floors(lower_scores.data(), rounded.squares_least, static_cast<float>(per_unit_ / kWiden),
                           drifts_.data(), padded_k_, lower_.data() + row * padded_k_);
}

}  // namespace moextract::cluster
