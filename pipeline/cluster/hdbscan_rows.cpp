#include "cluster/hdbscan_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "cluster/hdbscan_kernel.h"
#include "core/error.h"

// Vectors wider than the processor's registers change how functions are called; ours never leave this file.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace moextract::cluster::hdbscan {
namespace {

typedef float EightFloats __attribute__((vector_size(8 * sizeof(float))));
typedef double EightDoubles __attribute__((vector_size(8 * sizeof(double))));

// Relative to the sum of two squared norms, how far the kernel's value (with true norms) may be from the exact squared
// distance: the proof in docs/clustering-hdbscan.md needs (dimension + 12) * 2^-24; one per cent and four units more
// cover what is of second order.
double error_share(std::int64_t dimension) {
  return 1.01 * (static_cast<double>(dimension) + 16) * 0x1.0p-24;
}

// Values below the normal range lose their relative precision: products of a row of dimension 2^20 lose less than this.
constexpr double kUnderflow = 1e-37;

float round_down(double value) {
  const auto near = static_cast<float>(value);
  return static_cast<double>(near) <= value ? near : std::nextafter(near, -std::numeric_limits<float>::infinity());
}
float round_up(double value) {
  return -round_down(-value);
}

}  // namespace

double exact_squared_distance(const float* a, const float* b, std::int64_t dimension) {
  EightDoubles sums = {};
  std::int64_t k = 0;
  for (; k + 8 <= dimension; k += 8) {
    EightFloats x, y;
    std::memcpy(&x, a + k, sizeof x);
    std::memcpy(&y, b + k, sizeof y);
    const EightDoubles difference = __builtin_convertvector(x, EightDoubles) - __builtin_convertvector(y, EightDoubles);
    sums += difference * difference;
  }
  for (int lane = 0; k < dimension; ++k, ++lane) {
    const double difference = static_cast<double>(a[k]) - b[k];
    sums[lane] += difference * difference;
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

AlignedFloats::AlignedFloats(std::size_t size) : size_(size) {
  const std::size_t bytes = std::max<std::size_t>((size * sizeof(float) + 63) / 64 * 64, 64);
  data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
  if (!data_) throw std::bad_alloc();
}

void AlignedFloats::Free::operator()(float* at) const {
  std::free(at);
}

std::vector<float> mean_row(std::span<const float> rows, std::int64_t dimension) {
  const auto d = static_cast<std::size_t>(dimension);
  std::vector<double> sums(d, 0.0);
  for (std::size_t at = 0; at < rows.size(); at += d) {
    for (std::size_t k = 0; k < d; ++k) sums[k] += rows[at + k];
  }
  std::vector<float> mean(d, 0.0f);
  const double count = static_cast<double>(rows.size() / d);
  for (std::size_t k = 0; k < d && count > 0; ++k) mean[k] = static_cast<float>(sums[k] / count);
  return mean;
}

FastRows make_fast_rows(std::span<const float> rows, std::span<const float> origin, Workers& workers) {
  const auto d = static_cast<std::int64_t>(origin.size());
  MOEX_ASSERT(d > 0 && d <= (std::int64_t{1} << 17), "the error bound holds for dimensions up to 2^17");
  FastRows fast;
  fast.dimension = d;
  fast.count = static_cast<std::int64_t>(rows.size()) / d;
  fast.values.resize(rows.size());
  fast.norms.resize(static_cast<std::size_t>(fast.count));
  fast.spread.resize(static_cast<std::size_t>(fast.count));
  const double share = error_share(d);
  constexpr std::int64_t kUnit = 256;
  workers.for_each((fast.count + kUnit - 1) / kUnit, [&](std::int64_t unit, int) {
    for (std::int64_t i = unit * kUnit; i < std::min(fast.count, (unit + 1) * kUnit); ++i) {
      const float* from = rows.data() + i * d;
      float* to = fast.values.data() + i * d;
      std::array<double, 8> lanes = {};
      for (std::int64_t k = 0; k < d; ++k) {
        to[k] = from[k] - origin[static_cast<std::size_t>(k)];
        lanes[static_cast<std::size_t>(k & 7)] += static_cast<double>(to[k]) * to[k];
      }
      double norm = 0;
      for (const double lane : lanes) norm += lane;
      const auto at = static_cast<std::size_t>(i);
      fast.norms[at] = round_down(norm * (1 - share) - kUnderflow);
      fast.spread[at] = round_up(norm * 2 * share * 1.01 + 4 * kUnderflow);
    }
  });
  return fast;
}

Panels::Panels(const FastRows& rows, std::span<const std::int32_t> order, Workers& workers)
    : count_((static_cast<std::int64_t>(order.size()) + kPanelColumns - 1) / kPanelColumns),
      dimension_(rows.dimension),
      values_(static_cast<std::size_t>(count_ * kPanelColumns * dimension_)),
      norms_(static_cast<std::size_t>(count_ * kPanelColumns)),
      rows_(static_cast<std::size_t>(count_ * kPanelColumns), -1) {
  std::copy(order.begin(), order.end(), rows_.begin());
  workers.for_each(count_, [&](std::int64_t p, int) {
    float* to = values_.data() + p * kPanelColumns * dimension_;
    for (int c = 0; c < kPanelColumns; ++c) {
      const std::int32_t row = rows_[static_cast<std::size_t>(p * kPanelColumns + c)];
      norms_.data()[p * kPanelColumns + c] =
          row < 0 ? std::numeric_limits<float>::quiet_NaN() : rows.norms[static_cast<std::size_t>(row)];
    }
    // 16 dimensions at a time: the rows' lines are read whole while the panel's stay in the cache.
    for (std::int64_t first = 0; first < dimension_; first += 16) {
      const std::int64_t last = std::min(dimension_, first + 16);
      for (int c = 0; c < kPanelColumns; ++c) {
        const std::int32_t row = rows_[static_cast<std::size_t>(p * kPanelColumns + c)];
        for (std::int64_t k = first; k < last; ++k) to[k * kPanelColumns + c] = row < 0 ? 0.0f : rows.row(row)[k];
      }
    }
  });
}

}  // namespace moextract::cluster::hdbscan
