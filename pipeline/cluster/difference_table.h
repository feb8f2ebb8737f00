// Scores kept from a pass that measured every row and centroid, and the rows as bytes: later passes tell most labels by
// what the centroids have moved since. A difference is short, so that bytes are enough for its product with a row, and
// a pass reads half as much as one over rows of 16 bits. docs/clustering-kmeans.md has the argument for the bound.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/large_array.h"
#include "cluster/nearest.h"

namespace moextract::cluster {

/// A worker's buffers.
struct DifferenceScratch {
  explicit DifferenceScratch(std::int64_t k);
  std::vector<std::int32_t> products, ids;
  std::vector<float> lower, upper;
};

class DifferenceTable {
 public:
  /// For `rows` local rows; off, and of no size, if it would take more than `most_bytes`, or if distance bounds serve
  /// better: for many centroids, or where the processor has no fast products of bytes.
  DifferenceTable(std::int64_t rows, std::int64_t k, std::int64_t dimension, std::int64_t most_bytes);

  bool is_on() const { return on_; }
  /// Before a pass over all rows: whether it is to measure all of them, and keep_scores(). Else open_rows() tells
  /// labels.
  void start(const NearestCentroids& nearest);
  bool is_reference_pass() const { return measures_; }
  /// After a pass.
  void finish() { has_bytes_ = on_; }
  /// Have all rows been kept as bytes?
  bool has_bytes() const { return has_bytes_; }

  /// In the first pass: the row that `scratch` rounded last.
  void keep_bytes(std::int64_t row, const RoundedRow& rounded, const NearestScratch& scratch);
  /// In a reference pass: [padded k] lower bounds of a row's scores.
  void keep_scores(std::int64_t row, std::span<const float> lower) {
    std::copy(lower.begin(), lower.end(), scores_.data() + row * padded_k_);
  }

  /// Calls visit(row, label, candidates) for `count` rows from `first` on: the label that is certain, else -1 and the
  /// centroids that it may be, ascending; valid during the call.
  template <class Visit>
  void tell(std::int64_t first, std::int64_t count, DifferenceScratch& scratch, Visit&& visit) const {
    std::int64_t rows[kKernelRows];
    for (std::int64_t n = 0; n < count; n += kKernelRows) {
      const std::int64_t some = std::min<std::int64_t>(kKernelRows, count - n);
      for (std::int64_t i = 0; i < some; ++i) rows[i] = first + n + i;
      multiply({rows, static_cast<std::size_t>(some)}, scratch);
      for (std::int64_t i = 0; i < some; ++i) {
        const std::span<const std::int32_t> left = candidates(rows[i], i, scratch);
        visit(rows[i], left.size() == 1 ? left.front() : -1, left);
      }
    }
  }
  /// Asks for a row before it is needed; nothing beyond the last one.
  void prefetch(std::int64_t row) const {
    if (row >= static_cast<std::int64_t>(rows_.size())) return;
    for (std::int64_t j = 0; j < depth_; j += 64) __builtin_prefetch(bytes_.data() + row * depth_ + j, 0, 2);
    for (std::int64_t c = 0; c < padded_k_; c += 16) __builtin_prefetch(scores_.data() + row * padded_k_ + c, 0, 2);
  }

 private:
  // A row as bytes: what ScoreTerms and DifferenceTerms want to know of it.
  struct ByteRow {
    float row_error, row_reach, byte_unit, byte_error, byte_reach;
  };
  // The centroids that scores_ were measured from.
  struct Reference {
    std::vector<float> values, norms, errors;  // [k, dimension]; [padded k]
    std::vector<double> offsets;               // [k]
  };

  bool are_few() const { return k_ <= kFewCentroids; }
  void compare(const NearestCentroids& nearest);
  bool leaves_few_open() const;
  void multiply(std::span<const std::int64_t> rows, DifferenceScratch& scratch) const;
  std::span<const std::int32_t> candidates(std::int64_t row, std::int64_t i, DifferenceScratch& scratch) const;

  const ProductKernels& kernels_;
  std::int64_t k_, padded_k_, dimension_, depth_;
  bool on_ = false, has_bytes_ = false, measures_ = true;
  LargeArray<std::uint8_t> bytes_;  // [rows, depth]
  LargeArray<float> scores_;        // [rows, padded k] lower bounds
  std::vector<ByteRow> rows_;
  Reference reference_;
  // Of the current centroids: how they differ from the reference.
  std::vector<signed char> panels_;  // of bytes; row-major where they are few
  std::vector<std::int32_t> start_;
  std::vector<float> shifts_, units_, movements_, losses_, slacks_;  // [padded k]
};

}  // namespace moextract::cluster
