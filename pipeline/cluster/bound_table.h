// What is known of the distances between rows and centroids from earlier iterations (Elkan 2003): an upper bound of the
// distance to the row's own centroid, a lower bound of that to every other. Centroids that moved take their movement
// off the bounds; a row whose upper bound stays below all lower ones keeps its cluster without being read.
//
// Bounds are 16-bit multiples of one unit, rounded to the safe side. A lower bound is stored together with the sum of
// its centroid's movements so far, so that it need not be written again when the centroid moves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/large_array.h"
#include "cluster/nearest.h"

namespace moextract::cluster {

class BoundTable {
 public:
  /// What it takes for `rows` local rows; 0 where it is off.
  static std::int64_t bytes_for(std::int64_t rows, std::int64_t k, std::int64_t most_bytes);
  /// For `rows` local rows; off, and of no size, if it would take more than `most_bytes` or there is but one centroid.
  BoundTable(std::int64_t rows, std::int64_t k, std::int64_t most_bytes);

  bool is_on() const { return on_; }
  /// Do rows have bounds? Not before the first pass, nor after forget().
  bool is_filled() const { return on_ && filled_; }

  /// Before a pass over all rows: distances up to some 16 * `spread` can be told apart.
  void start(double spread);
  /// After a pass: from now on rows have bounds.
  void finish() { filled_ = on_; }
  /// Before a pass: each centroid moved by at most movements[c] since the last one.
  void move(std::span<const double> movements);

  /// Takes the last movement of the row's own centroid, `label`, off its upper bound: once a row and pass.
  void loosen(std::int64_t row, std::int32_t label) {
    std::uint16_t& own = own_[static_cast<std::size_t>(row)];
    own =
        static_cast<std::uint16_t>(std::min(own + last_[static_cast<std::size_t>(label)], static_cast<int>(kUnknown)));
  }
  /// Whether a centroid may be as near as the row's own: whether suspects() would find any. May say yes without one
  /// where nothing is known of the own distance.
  bool any_suspect(std::int64_t row) const {
    return kernels_.any_within(lower_.data() + row * padded_k_, drifts_.data(), own_[static_cast<std::size_t>(row)],
                               padded_k_);
  }
  /// The centroids that may be as near as the row's own, `label`; ascending, without `label`. None: the row stays.
  std::int64_t suspects(std::int64_t row, std::int32_t label, std::span<std::int32_t> ids) const;
  /// Distance to the row's own centroid, from its score.
  void set_own(std::int64_t row, std::int32_t label, const RoundedRow& rounded, float upper_score);
  /// Lower bound of one distance.
  void set_other(std::int64_t row, std::int32_t c, const RoundedRow& rounded, float lower_score);
  /// All lower bounds of a row, from [padded k] scores; set_own is called after it.
  void set_all(std::int64_t row, const RoundedRow& rounded, std::span<const float> lower_scores);

 private:
  static constexpr std::uint16_t kUnknown = 65535;  // no bound reaches it: as own distance, suspects all

  std::int64_t k_, padded_k_;
  bool on_ = false, filled_ = false;
  float per_unit_ = 0;  // 1 / unit
  const ProductKernels& kernels_;
  LargeArray<std::uint16_t> lower_;    // [rows, padded k], movements included
  std::vector<std::uint16_t> own_;     // [rows]
  std::vector<std::uint16_t> drifts_;  // [padded k] sums of movements
  std::vector<std::uint16_t> last_;    // [padded k] the last movement
};

}  // namespace moextract::cluster
