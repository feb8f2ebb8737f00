// The rows that HDBSCAN clusters, laid out for the product kernel, and the two kinds of distance: the exact one, which
// defines every result, and the fast lower bound, which only saves work.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/workers.h"

namespace moextract::cluster::hdbscan {

/// Squared Euclidean distance in double: differences of the floats, squared, in 8 lanes of fixed order. This IS the
/// distance everywhere in HDBSCAN here: symmetric, the same bits on every machine, 0 for equal rows.
double exact_squared_distance(const float* a, const float* b, std::int64_t dimension);

/// Floats aligned to 64 bytes.
class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(std::size_t size);
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(float* at) const;
  };
  std::unique_ptr<float[], Free> data_;
  std::size_t size_ = 0;
};

/// Rows moved to a common origin, for the fast pass. The origin makes norms, hence the error bound, small; it does not
/// change distances. `norms` are so much smaller than the true squared norms that the kernel's
/// t = norms[i] - 2 x.y + norms[j] is at most the exact squared distance, and t + spread[i] + spread[j] at least.
/// docs/clustering-hdbscan.md has the proof.
struct FastRows {
  std::int64_t count = 0, dimension = 0;
  std::vector<float> values;  ///< [count, dimension]
  std::vector<float> norms;   ///< [count]
  std::vector<float> spread;  ///< [count]

  const float* row(std::int64_t i) const { return values.data() + i * dimension; }
};

/// Mean of `rows` ([count, dimension]) as floats: sums in double, rows in ascending order. For no rows, zeros.
std::vector<float> mean_row(std::span<const float> rows, std::int64_t dimension);

/// `rows` is [count, dimension], `origin` [dimension].
FastRows make_fast_rows(std::span<const float> rows, std::span<const float> origin, Workers& workers);

/// Rows of a FastRows as panels of 48 side by side, in any order.
class Panels {
 public:
  /// `order` lists rows of `rows`; the last panel is filled up with padding (norm NaN, row -1).
  Panels(const FastRows& rows, std::span<const std::int32_t> order, Workers& workers);

  std::int64_t count() const { return count_; }
  const float* panel(std::int64_t p) const { return values_.data() + p * 48 * dimension_; }
  const float* norms(std::int64_t p) const { return norms_.data() + p * 48; }
  /// Row numbers of the panel's columns, [48], -1 for padding.
  const std::int32_t* rows(std::int64_t p) const { return rows_.data() + p * 48; }

 private:
  std::int64_t count_, dimension_;
  AlignedFloats values_, norms_;
  std::vector<std::int32_t> rows_;
};

}  // namespace moextract::cluster::hdbscan
