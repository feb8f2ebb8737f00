// Distances between rows and centroids whose bits depend on the row and the centroid alone: not on where the row stands
// in a block, which other rows or centroids are computed with it, or the width of the processor's vectors.
//
// Squared differences in double: one accumulator per (row, centroid), dimensions in ascending order. Vectors run over
// CENTROIDS (a panel of them side by side), which is why no order of summation is left to the vector width. Where only
// the nearest centroid is asked for, nearest.h is much faster.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moextract::cluster {

/// Rows that one worker handles at a time.
inline constexpr int kTileRows = 48;

/// Up to kTileRows rows as float and as double; a worker's scratch, used again and again.
/// Values are exact: float16 values, or for `spherical` the row at unit length with values rounded to multiples of
/// 2^-24 (a row of zeros stays as it is).
class RowTile {
 public:
  explicit RowTile(std::int64_t dimension);

  /// `rows` is [count, dimension] float16 bits, finite, count <= kTileRows.
  void load(std::span<const std::uint16_t> rows, std::int64_t count, bool spherical);
  /// `rows` is [count, dimension], values as from row() of another tile.
  void load(std::span<const float> rows, std::int64_t count);

  std::int64_t dimension() const { return dimension_; }
  std::int64_t count() const { return count_; }
  std::span<const float> row(std::int64_t i) const;
  const double* wide(std::int64_t i) const { return wide_.data() + i * dimension_; }

 private:
  void widen(std::int64_t count);

  std::int64_t dimension_;
  std::int64_t count_ = 0;
  std::vector<float> values_;  // [kTileRows, dimension]
  std::vector<double> wide_;   // the same; rows beyond count_ hold older rows, whose results nobody reads
};

/// Row values, float16 or prepared for `spherical`, as floats; what RowTile::load does, for any number of rows.
void prepare_rows(std::span<const std::uint16_t> rows, std::int64_t dimension, bool spherical, std::span<float> out);

/// Centroids laid out for the kernels.
class CentroidPanels {
 public:
  /// `centroids` is [k, dimension], finite.
  CentroidPanels(std::span<const float> centroids, std::int64_t k, std::int64_t dimension);

  std::int64_t size() const { return k_; }

  /// out[i * size() + c] = |x_i - c|^2, from differences: zero exactly when the row and the centroid are equal.
  void squared_distances(const RowTile& tile, std::span<double> out) const;

  /// |x_i - c|^2 from differences, in 8 lanes of fixed order: for a single pair.
  double squared_distance(const RowTile& tile, std::int64_t i, std::int64_t c) const;

 private:
  std::int64_t k_, dimension_;
  std::vector<double> panels_;  // [ceil(k / width), dimension, width], zeros beyond k
  std::vector<double> rows_;    // [k, dimension]
};

}  // namespace moextract::cluster
