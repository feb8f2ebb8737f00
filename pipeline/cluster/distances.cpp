#include "cluster/distances.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/float16.h"

// Vectors wider than the processor's registers change how functions are called; ours never leave this file.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace moextract::cluster {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
// 6 rows by 2 vectors of centroids: 12 accumulators, 2 vectors and 1 broadcast fit the 16 registers of AVX2.
constexpr int kGroupRows = 6;
constexpr int kPanelWidth = 2 * kLanes;
static_assert(kTileRows % kGroupRows == 0);

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
typedef double EightLanes __attribute__((vector_size(8 * sizeof(double))));

template <class V>
V load_lanes(const double* from) {
  V lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

struct SquaredDifference {
  static Lanes step(double x, Lanes c, Lanes sum) {
    const Lanes difference = x - c;
    return sum + difference * difference;
  }
};

// out[r * kPanelWidth + c] for kGroupRows rows, `stride` doubles apart, and one panel.
template <class Form>
void group_times_panel(const double* rows, std::int64_t stride, const double* panel, std::int64_t dimension,
                       double* out) {
  Lanes sums[kGroupRows][2] = {};
  for (std::int64_t j = 0; j < dimension; ++j) {
    const auto left = load_lanes<Lanes>(panel + j * kPanelWidth);
    const auto right = load_lanes<Lanes>(panel + j * kPanelWidth + kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < kGroupRows; ++r) {
      const double x = rows[r * stride + j];
      sums[r][0] = Form::step(x, left, sums[r][0]);
      sums[r][1] = Form::step(x, right, sums[r][1]);
    }
  }
  std::memcpy(out, sums, sizeof sums);
}

// visit(row, first centroid of the panel, kPanelWidth values) for all pairs, panels in ascending order.
template <class Form, class Visit>
void for_all_pairs(const RowTile& tile, const std::vector<double>& panels, Visit&& visit) {
  const std::int64_t dimension = tile.dimension();
  const std::int64_t panel_size = dimension * kPanelWidth;
  const auto count = panel_size == 0 ? 0 : static_cast<std::int64_t>(panels.size()) / panel_size;
  alignas(64) double out[kGroupRows * kPanelWidth];
  for (std::int64_t p = 0; p < count; ++p) {
    for (std::int64_t first = 0; first < tile.count(); first += kGroupRows) {
      group_times_panel<Form>(tile.wide(first), dimension, panels.data() + p * panel_size, dimension, out);
      const std::int64_t rows = std::min<std::int64_t>(kGroupRows, tile.count() - first);
      for (std::int64_t r = 0; r < rows; ++r) visit(first + r, p * kPanelWidth, out + r * kPanelWidth);
    }
  }
}

double sum_of_squares(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

void to_unit_length(std::span<float> row) {
  const double squares = sum_of_squares(row);
  if (squares == 0) return;
  const double scale = 0x1.0p24 / std::sqrt(squares);
  // At most 2^24 in size, so the rounded integers and their multiples by 2^-24 are floats exactly.
  for (float& value : row)
    value = static_cast<float>(std::rint(static_cast<double>(value) * scale) * kFloat16FixedUnit);
}

}  // namespace

void prepare_rows(std::span<const std::uint16_t> rows, std::int64_t dimension, bool spherical, std::span<float> out) {
  from_float16(rows, out);
  if (!spherical) return;
  const auto d = static_cast<std::size_t>(dimension);
  for (std::size_t first = 0; first + d <= out.size(); first += d) to_unit_length(out.subspan(first, d));
}

RowTile::RowTile(std::int64_t dimension)
    : dimension_(dimension),
      values_(static_cast<std::size_t>(kTileRows * dimension)),
      wide_(static_cast<std::size_t>(kTileRows * dimension)) {}

void RowTile::load(std::span<const std::uint16_t> rows, std::int64_t count, bool spherical) {
  MOEX_ASSERT(count <= kTileRows && rows.size() == static_cast<std::size_t>(count * dimension_), "tile overrun");
  prepare_rows(rows, dimension_, spherical, std::span(values_).first(rows.size()));
  widen(count);
}

void RowTile::load(std::span<const float> rows, std::int64_t count) {
  MOEX_ASSERT(count <= kTileRows && rows.size() == static_cast<std::size_t>(count * dimension_), "tile overrun");
  std::copy(rows.begin(), rows.end(), values_.begin());
  widen(count);
}

void RowTile::widen(std::int64_t count) {
  count_ = count;
  std::copy_n(values_.begin(), count * dimension_, wide_.begin());
}

std::span<const float> RowTile::row(std::int64_t i) const {
  return std::span(values_).subspan(static_cast<std::size_t>(i * dimension_), static_cast<std::size_t>(dimension_));
}

CentroidPanels::CentroidPanels(std::span<const float> centroids, std::int64_t k, std::int64_t dimension)
    : k_(k), dimension_(dimension), rows_(centroids.begin(), centroids.end()) {
  MOEX_ASSERT(centroids.size() == static_cast<std::size_t>(k * dimension), "centroids are not [k, dimension]");
  const std::int64_t panels = (k + kPanelWidth - 1) / kPanelWidth;
  panels_.resize(static_cast<std::size_t>(panels * dimension * kPanelWidth));
  for (std::int64_t c = 0; c < k; ++c) {
    double* panel = panels_.data() + (c / kPanelWidth) * dimension * kPanelWidth + c % kPanelWidth;
    for (std::int64_t j = 0; j < dimension; ++j) panel[j * kPanelWidth] = rows_[c * dimension + j];
  }
}

void CentroidPanels::squared_distances(const RowTile& tile, std::span<double> out) const {
  MOEX_ASSERT(out.size() >= static_cast<std::size_t>(tile.count() * k_), "no room for the distances");
  for_all_pairs<SquaredDifference>(tile, panels_, [&](std::int64_t row, std::int64_t first, const double* values) {
    std::copy_n(values, std::min<std::int64_t>(kPanelWidth, k_ - first), out.begin() + row * k_ + first);
  });
}

double CentroidPanels::squared_distance(const RowTile& tile, std::int64_t i, std::int64_t c) const {
  const double* x = tile.wide(i);
  const double* centroid = rows_.data() + c * dimension_;
  EightLanes sums = {};
  std::int64_t j = 0;
  for (; j + 8 <= dimension_; j += 8) {
    const EightLanes difference = load_lanes<EightLanes>(x + j) - load_lanes<EightLanes>(centroid + j);
    sums += difference * difference;
  }
  double lanes[8];
  std::memcpy(lanes, &sums, sizeof lanes);
  for (int lane = 0; j < dimension_; ++j, ++lane) lanes[lane] += (x[j] - centroid[j]) * (x[j] - centroid[j]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace moextract::cluster
