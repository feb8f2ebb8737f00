#include "cluster/nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cluster/centroid_grid.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Larger than the score of any centroid, and its slack is finite.
constexpr float kNoCentroid = 1e30f;

// A float at least as large as a value that is not negative.
float round_up(double value) {
  return static_cast<float>(value * (1 + 0x1.0p-22)) + 1e-37f;
}

// The power of 2 by which values of this length and size are multiplied before they are rounded.
int rounding_exponent(double length, double largest, std::int64_t dimension) {
  if (largest == 0) return 0;
  const double room = kLongestRounded - 0.51 * std::sqrt(static_cast<double>(dimension));
  return std::clamp(std::ilogb(std::min(room / length, kLargestRounded / largest)), -100, 100);
}

double product(std::span<const float> x, const float* c) {
  double lanes[8] = {};
  std::size_t j = 0;
  for (; j + 8 <= x.size(); j += 8) {
    for (int i = 0; i < 8; ++i) lanes[i] += static_cast<double>(x[j + i]) * static_cast<double>(c[j + i]);
  }
  for (int i = 0; j < x.size(); ++j, ++i) lanes[i] += static_cast<double>(x[j]) * static_cast<double>(c[j]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

__int128 exact_product(std::span<const float> x, const float* c) {
  __int128 sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    sum += static_cast<__int128>(static_cast<std::int64_t>(static_cast<double>(x[j]) * 0x1.0p24)) *
           centroid_to_fixed(c[j]);
  }
  return sum;
}

}  // namespace

NearestScratch::NearestScratch(std::int64_t k, std::int64_t dimension, std::int64_t rows) {
  const auto depth = static_cast<std::size_t>(padded_depth(dimension));
  const auto padded = static_cast<std::size_t>((k + kPanelCentroids - 1) / kPanelCentroids * kPanelCentroids);
  centred_.resize(depth);
  rounded_.resize(static_cast<std::size_t>(rows) * depth);
  products_.resize(kKernelRows * padded);
  ids_.resize(padded);
  lower_.resize(padded);
  upper_.resize(padded);
}

NearestCentroids::NearestCentroids(std::span<const float> centroids, std::int64_t k, std::int64_t dimension,
                                   std::span<const float> centre, std::span<const double> prices)
    : kernels_(kernels()),
      k_(k),
      padded_k_((k + kPanelCentroids - 1) / kPanelCentroids * kPanelCentroids),
      dimension_(dimension),
      depth_(padded_depth(dimension)),
      centroids_(centroids.begin(), centroids.end()),
      centre_(centre.begin(), centre.end()) {
  MOEX_ASSERT(centroids.size() == static_cast<std::size_t>(k * dimension), "centroids are not [k, dimension]");
  const auto d = static_cast<std::size_t>(dimension);
  if (centre_.empty()) {
    std::vector<double> mean(d);
    for (std::size_t i = 0; i < centroids_.size(); ++i) mean[i % d] += static_cast<double>(centroids_[i]);
    for (const double sum : mean) centre_.push_back(to_centroid_grid(sum / static_cast<double>(k)));
  }
  MOEX_ASSERT(centre_.size() == d, "the centre is not [dimension]");
  const auto padded = static_cast<std::size_t>(padded_k_), depth = static_cast<std::size_t>(depth_);
  panels_.assign(padded * depth, 0);
  rounded_.assign(padded * depth, 0);
  squares_.assign(padded, kNoCentroid);
  units_.assign(padded, 0);
  norms_.assign(padded, 0);
  errors_.assign(padded, 0);
  MOEX_ASSERT(prices.empty() || prices.size() == static_cast<std::size_t>(k), "prices are not [k]");
  for (std::int64_t c = 0; c < k; ++c) add_centroid(c, prices.empty() ? 0 : prices[static_cast<std::size_t>(c)]);
  spread_ = std::sqrt(spread_ / static_cast<double>(k));
}

void NearestCentroids::add_centroid(std::int64_t c, double price) {
  const float* values = centroids_.data() + c * dimension_;
  // Exact: both lie on the grid and below 2^17.
  double squares = 0, largest = 0;
  __int128 exact = 0;
  for (std::int64_t j = 0; j < dimension_; ++j) {
    const double y = static_cast<double>(values[j]) - static_cast<double>(centre_[j]);
    squares += y * y;
    largest = std::max(largest, std::fabs(y));
    const std::int64_t fixed = centroid_to_fixed(values[j]);
    exact += static_cast<__int128>(fixed) * fixed;
  }
  // Whole numbers of 2^-36, as exact as a double is; the same numbers below, where they are rounded to float.
  const double whole_price = std::rint(std::ldexp(price, 36));
  exact_squares_.push_back(exact);
  exact_offsets_.push_back(exact + (static_cast<__int128>(whole_price) << 36));
  spread_ += squares;
  const double length = std::sqrt(squares) * (1 + 1e-9);
  const int exponent = rounding_exponent(length, largest, dimension_);
  const double scale = std::ldexp(1.0, exponent);
  double lost = 0;
  std::int16_t* row = rounded_.data() + c * depth_;
  std::int16_t* panel = panels_.data() + c / kPanelCentroids * depth_ * kPanelCentroids + c % kPanelCentroids * 2;
  for (std::int64_t j = 0; j < dimension_; ++j) {
    const double y = (static_cast<double>(values[j]) - static_cast<double>(centre_[j])) * scale;
    const double whole = std::rint(y);
    lost += (y - whole) * (y - whole);
    row[j] = static_cast<std::int16_t>(whole);
    panel[j / 2 * 2 * kPanelCentroids + j % 2] = row[j];
  }
  offsets_.push_back(squares + std::ldexp(whole_price, -36));
  squares_[c] = static_cast<float>(offsets_.back());
  units_[c] = std::ldexp(2.0f, -exponent);
  norms_[c] = round_up(length);
  errors_[c] = round_up(std::sqrt(lost) / scale * (1 + 1e-9));
}

bool NearestCentroids::round_to(std::int16_t* to, std::span<const std::uint16_t> row, NearestScratch& scratch,
                                RoundedRow& out) const {
  const RowExtent extent = kernels_.centre_half(row.data(), centre_.data(), dimension_, scratch.centred_.data());
  if (!std::isfinite(extent.squares)) return false;
  out = finish_rounding(extent, scratch, to);
  return true;
}

bool NearestCentroids::round_to(std::int16_t* to, std::span<const float> row, NearestScratch& scratch,
                                RoundedRow& out) const {
  const RowExtent extent = kernels_.centre_float(row.data(), centre_.data(), dimension_, scratch.centred_.data());
  if (!std::isfinite(extent.squares)) return false;
  out = finish_rounding(extent, scratch, to);
  return true;
}

RoundedRow NearestCentroids::finish_rounding(const RowExtent& extent, const NearestScratch& scratch,
                                             std::int16_t* to) const {
  RoundedRow row;
  const double d = static_cast<double>(dimension_);
  // One rounding of each difference (2^-24 of it) and the sum's own error, with room to spare.
  const double doubt = (d + 32) * 0x1.0p-23;
  row.squares_least = static_cast<float>(static_cast<double>(extent.squares) * (1 - doubt) * (1 - 0x1.0p-22));
  row.squares_most = round_up(static_cast<double>(extent.squares) * (1 + doubt));
  const double length = std::sqrt(static_cast<double>(row.squares_most));
  const int exponent = rounding_exponent(length, static_cast<double>(extent.largest), dimension_);
  kernels_.round(scratch.centred_.data(), std::ldexp(1.0f, exponent), depth_, to);
  row.values = to;
  row.unit = std::ldexp(1.0f, -exponent);
  const double rounding = 0.5 * std::sqrt(d) * static_cast<double>(row.unit) + 0x1.0p-23 * length;
  row.error = round_up(2 * rounding * (1 + 0x1.0p-20) + 0x1.0p-19 * length);
  row.length = round_up(2 * (length + rounding) * (1 + 0x1.0p-20));
  return row;
}

ScoreTerms NearestCentroids::terms(const RoundedRow& row) const {
  return {squares_.data(), units_.data(), norms_.data(), errors_.data(), row.unit, row.error, row.length};
}

void NearestCentroids::multiply(std::span<const RoundedRow> rows, NearestScratch& scratch) const {
  const std::int16_t* values[kKernelRows];
  for (std::size_t i = 0; i < kKernelRows; ++i) values[i] = rows[std::min(i, rows.size() - 1)].values;
  kernels_.products(values, panels_.data(), padded_k_ / kPanelCentroids, depth_, scratch.products_.data(), padded_k_);
}

NearestCentroids::RowScores NearestCentroids::bound(const RoundedRow& row, std::size_t i,
                                                    NearestScratch& scratch) const {
  const float best = kernels_.score_bounds(scratch.products_.data() + static_cast<std::int64_t>(i) * padded_k_,
                                           terms(row), padded_k_, scratch.lower_.data(), scratch.upper_.data());
  const std::int64_t count = kernels_.select_at_most(scratch.lower_.data(), padded_k_, best, scratch.ids_.data());
  RowScores scores;
  scores.lower = scratch.lower_;
  scores.upper = scratch.upper_;
  scores.candidates = std::span(scratch.ids_).first(static_cast<std::size_t>(count));
  if (count == 1) {
    scores.label = scratch.ids_[0];
    ++scratch.counts_.fast;
  }
  return scores;
}

std::int32_t NearestCentroids::decide(std::span<const float> row, std::span<const std::int32_t> candidates,
                                      NearestScratch& scratch) const {
  MOEX_ASSERT(!candidates.empty(), "nothing to decide");
  // Eight partial sums of dimension / 8 exact products each: a relative error below (dimension / 8 + 4) * 2^-53 of the
  // sum of magnitudes, which is at most |x| |c|.
  const double doubt = (static_cast<double>(dimension_) + 64) * 0x1.0p-53;
  const double length = std::sqrt(product(row, row.data())) * (1 + 1e-9);
  double best = std::numeric_limits<double>::infinity();
  std::vector<double> lower(candidates.size());
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const std::int32_t c = candidates[i];
    const double squares = std::ldexp(static_cast<double>(exact_offsets_[c]), -72);
    const double score = squares - 2 * product(row, centroids_.data() + c * dimension_);
    const double slack = doubt * (squares + 2 * length * std::sqrt(squares)) * (1 + 1e-9);
    lower[i] = score - slack;
    best = std::min(best, score + slack);
  }
  std::int32_t label = -1;
  std::int64_t left = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (lower[i] > best) continue;
    label = candidates[i];
    ++left;
  }
  if (left == 1) {
    ++scratch.counts_.in_double;
    return label;
  }
  ++scratch.counts_.exact;
  __int128 least = 0;
  label = -1;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (lower[i] > best) continue;
    const std::int32_t c = candidates[i];
    const __int128 score = exact_score(exact_offsets_[c], exact_product(row, centroids_.data() + c * dimension_));
    if (label >= 0 && score >= least) continue;
    least = score;
    label = c;
  }
  return label;
}

}  // namespace moextract::cluster
