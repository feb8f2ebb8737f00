// The true nearest centroid of a row: fast where rounded products leave no doubt, by exact arithmetic where they do.
//
// Three steps, each for those centroids only that the one before leaves in question: products of values rounded to 16
// bits, whose error is bounded; products in double with an error bound; integers. docs/clustering-kmeans.md has the
// argument for both bounds. The label is a fact about the row and the centroids, so it depends on nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/product_kernels.h"

namespace moextract::cluster {

/// A row minus the centre, rounded to 16-bit multiples of `unit`, a power of 2.
struct RoundedRow {
  const std::int16_t* values = nullptr;
  float unit = 1;
  float error = 0;                            ///< length of what the rounding changed, at most
  float length = 0;                           ///< length after rounding, at most
  float squares_least = 0, squares_most = 0;  ///< around the true squared length
};

/// The score of one centroid: squared distance less the row's squared length, between the two.
struct ScoreRange {
  float lower = 0, upper = 0;
};

/// How many rows each step decided.
struct DecisionCounts {
  std::int64_t fast = 0, in_double = 0, exact = 0;
};

/// A worker's buffers.
class NearestScratch {
 public:
  NearestScratch(std::int64_t k, std::int64_t dimension, std::int64_t rows);

 private:
  friend class NearestCentroids;
  std::vector<float> centred_;
  std::vector<std::int16_t> rounded_;  // [rows, padded depth]
  std::vector<std::int32_t> products_, ids_;
  std::vector<float> lower_, upper_;
  DecisionCounts counts_;

 public:
  const DecisionCounts& counts() const { return counts_; }
};

class NearestCentroids {
 public:
  /// `centroids` [k, dimension] lie on the grid (centroid_grid.h); so does `centre` [dimension], any point near the
  /// rows: the nearer, the sharper the fast step. The mean of the centroids if empty. `prices` [k] or empty, finite and
  /// not negative, are added to the squared distances, after rounding to multiples of 2^-36: nearest then means the
  /// least sum, and scores hold the price.
  NearestCentroids(std::span<const float> centroids, std::int64_t k, std::int64_t dimension,
                   std::span<const float> centre = {}, std::span<const double> prices = {});

  std::int64_t size() const { return k_; }
  /// k up to a multiple of kPanelCentroids: the length of a row of bounds.
  std::int64_t padded_size() const { return padded_k_; }
  std::int64_t dimension() const { return dimension_; }
  std::span<const float> centroids() const { return centroids_; }  ///< [k, dimension]
  std::span<const float> centre() const { return centre_; }        ///< [dimension]
  /// A centroid's squared distance from the centre plus its price, to double's precision: the score of the centre.
  double offset(std::int64_t c) const { return offsets_[static_cast<std::size_t>(c)]; }
  /// Root of the mean squared distance of the centroids from the centre.
  double spread() const { return spread_; }

  /// A place for a rounded row in the scratch.
  std::int16_t* place(NearestScratch& scratch, std::int64_t slot) const {
    return scratch.rounded_.data() + slot * depth_;
  }
  /// Rounds a row into the scratch's place `slot`. False if it holds a NaN or infinity.
  bool round(std::span<const std::uint16_t> row, NearestScratch& scratch, std::int64_t slot, RoundedRow& out) const {
    return round_to(place(scratch, slot), row, scratch, out);
  }
  bool round(std::span<const float> row, NearestScratch& scratch, std::int64_t slot, RoundedRow& out) const {
    return round_to(place(scratch, slot), row, scratch, out);
  }
  /// The same into [padded_depth(dimension())] values of the caller's, which `out` refers to. They depend on the row
  /// and the centre alone, so other centroids with the same centre can use them again.
  bool round_to(std::int16_t* to, std::span<const std::uint16_t> row, NearestScratch& scratch, RoundedRow& out) const;
  bool round_to(std::int16_t* to, std::span<const float> row, NearestScratch& scratch, RoundedRow& out) const;

  /// What all_scores tells of each row: its nearest centroid, if it is certain (else -1 and all that may be it), with
  /// the lower bounds of all scores.
  struct RowScores {
    std::int32_t label = -1;
    std::span<const std::int32_t> candidates;  ///< ascending; valid during the call
    ScoreRange best;                           ///< of the label, where there is one
    std::span<const float> lower, upper;       ///< [padded_size()]
  };
  /// Calls visit(i, const RowScores&) for all rows.
  template <class Visit>
  void all_scores(std::span<const RoundedRow> rows, NearestScratch& scratch, Visit&& visit) const {
    for (std::size_t first = 0; first < rows.size(); first += kKernelRows) {
      const std::span<const RoundedRow> group =
          rows.subspan(first, std::min<std::size_t>(kKernelRows, rows.size() - first));
      multiply(group, scratch);
      for (std::size_t i = 0; i < group.size(); ++i) visit(first + i, bound(group[i], i, scratch));
    }
  }

  /// Products of a row and the centroids `ids`, for range_of().
  void products(const RoundedRow& row, std::span<const std::int32_t> ids, std::span<std::int32_t> out) const {
    kernels_.some_products(row.values, rounded_.data(), ids.data(), static_cast<std::int64_t>(ids.size()), depth_,
                           out.data());
  }
  /// Neighbouring centroids that the nearest cache holds beside a row or two.
  std::int64_t cached_centroids() const { return std::max<std::int64_t>(4, kCachedValues / depth_); }

  /// Range of the score of centroid `c`, given its product with the row.
  ScoreRange range_of(const RoundedRow& row, std::int32_t c, std::int32_t product) const {
    const auto at = static_cast<std::size_t>(c);
    const float squares = squares_[at];
    const float score = squares - static_cast<float>(product) * units_[at] * row.unit;
    const float slack = row.error * norms_[at] + row.length * errors_[at] + kScoreSlack * squares;
    return {score - slack, score + slack};
  }

  /// The nearest of `candidates` (ascending) to a prepared row, by doubles and integers. Lowest index on ties.
  std::int32_t decide(std::span<const float> row, std::span<const std::int32_t> candidates,
                      NearestScratch& scratch) const;

  /// Exact squared length of a centroid in units of 2^-72, without the price.
  __int128 exact_squares(std::int64_t c) const { return exact_squares_[static_cast<std::size_t>(c)]; }

 private:
  RoundedRow finish_rounding(const RowExtent& extent, const NearestScratch& scratch, std::int16_t* to) const;
  void multiply(std::span<const RoundedRow> rows, NearestScratch& scratch) const;
  RowScores bound(const RoundedRow& row, std::size_t i, NearestScratch& scratch) const;
  ScoreTerms terms(const RoundedRow& row) const;
  void add_centroid(std::int64_t c, double price);

  static constexpr std::int64_t kCachedValues = 12288;  // 24 of the 32 kB

  const ProductKernels& kernels_;
  std::int64_t k_, padded_k_, dimension_, depth_;
  double spread_ = 0;
  std::vector<float> centroids_, centre_;
  std::vector<std::int16_t> panels_, rounded_;           // two layouts of the same values
  std::vector<float> squares_, units_, norms_, errors_;  // [padded_k]
  std::vector<double> offsets_;                          // [k]
  std::vector<__int128> exact_squares_, exact_offsets_;  // [k]; with the price
};

}  // namespace moextract::cluster
