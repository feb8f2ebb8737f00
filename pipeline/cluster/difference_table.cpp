#include "cluster/difference_table.h"

#include <cmath>

#include "core/error.h"

namespace moextract::cluster {
namespace {

// With more centroids distance bounds spare more products than bytes spare reading.
constexpr std::int64_t kMostCentroids = 16;

// A pass that measures all of them costs about twice as much as one by differences, and a row that is left open three
// times as much as one that is not; and it makes the next passes cheaper.
constexpr std::int64_t kSampledRows = 192;
constexpr double kMostOpen = 0.25;

// A float at least as large as a value that is not negative.
float round_up(double value) {
  return static_cast<float>(value * (1 + 0x1.0p-22)) + 1e-37f;
}

}  // namespace

DifferenceScratch::DifferenceScratch(std::int64_t k) {
  const auto padded = static_cast<std::size_t>((k + kPanelCentroids - 1) / kPanelCentroids * kPanelCentroids);
  products.resize(kKernelRows * padded);
  ids.resize(padded);
  lower.resize(padded);
  upper.resize(padded);
}

DifferenceTable::DifferenceTable(std::int64_t rows, std::int64_t k, std::int64_t dimension, std::int64_t most_bytes)
    : kernels_(kernels()),
      k_(k),
      padded_k_((k + kPanelCentroids - 1) / kPanelCentroids * kPanelCentroids),
      dimension_(dimension),
      depth_(padded_bytes(dimension)) {
  const std::int64_t row_bytes = depth_ + 4 * padded_k_ + static_cast<std::int64_t>(sizeof(ByteRow));
  on_ = kernels_.has_byte_products && k > 1 && k <= kMostCentroids && dimension <= kMostByteDimension && rows > 0 &&
        rows <= most_bytes / row_bytes;
  if (!on_) return;
  bytes_ = LargeArray<std::uint8_t>(static_cast<std::size_t>(rows * depth_));
  scores_ = LargeArray<float>(static_cast<std::size_t>(rows * padded_k_));
  rows_.resize(static_cast<std::size_t>(rows));
}

void DifferenceTable::start(const NearestCentroids& nearest) {
  if (!on_) return;
  if (has_bytes_) {
    compare(nearest);
    measures_ = !leaves_few_open();
  }
  if (!measures_) return;
  reference_.values.assign(nearest.centroids().begin(), nearest.centroids().end());
  reference_.norms.assign(nearest.norms().begin(), nearest.norms().end());
  reference_.errors.assign(nearest.errors().begin(), nearest.errors().end());
  reference_.offsets.clear();
  for (std::int64_t c = 0; c < k_; ++c) reference_.offsets.push_back(nearest.offset(c));
}

void DifferenceTable::keep_bytes(std::int64_t row, const RoundedRow& rounded, const NearestScratch& scratch) {
  // Rounded up, so that no value is more than 127 units.
  const float unit = round_up(static_cast<double>(rounded.largest) / 127);
  const double d = static_cast<double>(dimension_);
  const double squares = kernels_.to_bytes(scratch.centred().data(), unit, dimension_, bytes_.data() + row * depth_);
  const double length = std::sqrt(static_cast<double>(rounded.squares_most));
  // Besides the rounding: what computing it in float may hide, and the rounding of the differences from the centre.
  const double lost = std::sqrt(squares) * (1 + (d + 40) * 0x1.0p-23) +
                      std::sqrt(d) * 0x1.0p-23 * static_cast<double>(rounded.largest) + 0x1.0p-23 * length;
  rows_[static_cast<std::size_t>(row)] = {.row_error = rounded.error,
                                          .row_reach = rounded.length,
                                          .byte_unit = unit,
                                          .byte_error = round_up(2 * lost * (1 + 0x1.0p-20) + 0x1.0p-19 * length),
                                          .byte_reach = round_up(2 * (length + lost) * (1 + 0x1.0p-20))};
}

// Lays out how far the centroids are from the reference.
void DifferenceTable::compare(const NearestCentroids& nearest) {
  const auto padded = static_cast<std::size_t>(padded_k_);
  panels_.assign(padded * static_cast<std::size_t>(depth_), 0);
  start_.assign(padded, 0);
  for (auto* each : {&shifts_, &units_, &movements_, &losses_, &slacks_}) each->assign(padded, 0);
  const std::span<const float> values = nearest.centroids();
  std::vector<double> difference(static_cast<std::size_t>(dimension_));
  for (std::int64_t c = 0; c < k_; ++c) {
    double squares = 0, largest = 0, lost = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      const auto i = static_cast<std::size_t>(c * dimension_ + j);
      const double moved = static_cast<double>(values[i]) - static_cast<double>(reference_.values[i]);
      difference[static_cast<std::size_t>(j)] = moved;
      squares += moved * moved;
      largest = std::max(largest, std::fabs(moved));
    }
    const auto at = static_cast<std::size_t>(c);
    const double before = reference_.offsets[at], now = nearest.offset(c);
    shifts_[at] = static_cast<float>(now - before);
    slacks_[at] = round_up(0x1.0p-20 * (2 * before + now));
    if (largest == 0) continue;
    const float unit = round_up(largest / 127);
    signed char* panel =
        panels_.data() +
        (are_few() ? c * depth_ : c / kPanelCentroids * depth_ * kPanelCentroids + c % kPanelCentroids * 4);
    std::int32_t sum = 0;
    for (std::int64_t j = 0; j < dimension_; ++j) {
      const double moved = difference[static_cast<std::size_t>(j)];
      const double whole = std::rint(moved / static_cast<double>(unit));
      const double error = moved - whole * static_cast<double>(unit);
      lost += error * error;
      panel[are_few() ? j : j / 4 * 4 * kPanelCentroids + j % 4] = static_cast<signed char>(whole);
      sum += static_cast<std::int32_t>(whole);
    }
    start_[at] = -kByteZero * sum;
    units_[at] = 2 * unit;
    movements_[at] = round_up(std::sqrt(squares) * (1 + 1e-9));
    losses_[at] = round_up(std::sqrt(lost) * (1 + 1e-9));
  }
}

// Tried on rows all over the set.
bool DifferenceTable::leaves_few_open() const {
  DifferenceScratch scratch(k_);
  const auto rows = static_cast<std::int64_t>(rows_.size()), sampled = std::min(kSampledRows, rows);
  std::int64_t open = 0;
  for (std::int64_t n = 0; n < sampled; ++n) {
    tell(n * rows / sampled, 1, scratch,
         [&](std::int64_t, std::int32_t label, std::span<const std::int32_t>) { open += label < 0 ? 1 : 0; });
  }
  return static_cast<double>(open) <= kMostOpen * static_cast<double>(sampled);
}

void DifferenceTable::multiply(std::span<const std::int64_t> rows, DifferenceScratch& scratch) const {
  const std::uint8_t* bytes[kKernelRows];
  for (std::size_t i = 0; i < kKernelRows; ++i) bytes[i] = bytes_.data() + rows[std::min(i, rows.size() - 1)] * depth_;
  if (are_few()) {
    kernels_.few_byte_products(bytes, panels_.data(), depth_, start_.data(), scratch.products.data(), padded_k_);
    return;
  }
  kernels_.byte_products(bytes, panels_.data(), padded_k_ / kPanelCentroids, depth_, start_.data(),
                         scratch.products.data(), padded_k_);
}

std::span<const std::int32_t> DifferenceTable::candidates(std::int64_t row, std::int64_t i,
                                                          DifferenceScratch& scratch) const {
  const ByteRow& bytes = rows_[static_cast<std::size_t>(row)];
  const DifferenceTerms terms{.shifts = shifts_.data(),
                              .units = units_.data(),
                              .norms = reference_.norms.data(),
                              .errors = reference_.errors.data(),
                              .movements = movements_.data(),
                              .losses = losses_.data(),
                              .slacks = slacks_.data(),
                              .row_error = bytes.row_error,
                              .row_reach = bytes.row_reach,
                              .byte_unit = bytes.byte_unit,
                              .byte_error = bytes.byte_error,
                              .byte_reach = bytes.byte_reach};
  const float best =
      kernels_.difference_bounds(scores_.data() + row * padded_k_, scratch.products.data() + i * padded_k_, terms,
                                 padded_k_, scratch.lower.data(), scratch.upper.data());
  const std::int64_t count = kernels_.select_at_most(scratch.lower.data(), padded_k_, best, scratch.ids.data());
  return std::span<const std::int32_t>(scratch.ids).first(static_cast<std::size_t>(count));
}

}  // namespace moextract::cluster
