// Sums that do not depend on the order of their terms, because the terms are integers: per-cluster sums of rows, and
// sums of squared distances rounded to a fixed point.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cluster/product_kernels.h"
#include "core/error.h"
#include "core/float16.h"

namespace moextract::cluster {

/// How exact sums of rows stand in 64-bit words, in units of 2^-24: the same on every rank, so that words are summed
/// over ranks.
///
/// One int64 a value holds rows * max|value| * 2^24 below 2^62. Beyond that, or with values of 128 and more (which do
/// not fit int32 in these units), each value is split in two int32 parts, value * 2^24 = high * 2^20 + low, summed
/// apart; that holds any float16 for 2^42 rows. high is value * 2^4 without its fraction.
class SumWords {
 public:
  /// `total_rows` of the whole set, or their weights, if that is more; `largest` |value| of the whole set.
  SumWords(std::int64_t k, std::int64_t dimension, std::int64_t total_rows, float largest)
      : k_(k), dimension_(dimension), split_(needs_split(total_rows, largest)) {
    MOEX_ASSERT(total_rows < std::int64_t{1} << 42, "more rows than the exact sums hold");
  }

  static bool needs_split(std::int64_t total_rows, float largest) {
    return largest >= 128.0f || static_cast<double>(total_rows) * static_cast<double>(largest) * 0x1.0p24 >= 0x1.0p62;
  }
  bool split() const { return split_; }
  /// int64 words of all sums: [k, dimension], twice that if split: high parts, low parts.
  std::size_t words() const { return static_cast<std::size_t>((split_ ? 2 : 1) * k_ * dimension_); }

  /// Sum of one value over a cluster times 2^24, in two parts high * 2^20 + low (low alone unless split()).
  std::pair<std::int64_t, std::int64_t> parts(std::span<const std::int64_t> words, std::int64_t cluster,
                                              std::int64_t j) const {
    const auto i = static_cast<std::size_t>(cluster * dimension_ + j);
    if (!split_) return {0, words[i]};
    return {words[i], words[i + static_cast<std::size_t>(k_ * dimension_)]};
  }

  /// Mean of one value of a cluster of `count` rows, from words summed over ranks: the same on every rank.
  double mean(std::span<const std::int64_t> words, std::int64_t cluster, std::int64_t j, std::int64_t count) const {
    const auto i = static_cast<std::size_t>(cluster * dimension_ + j);
    if (!split_) return static_cast<double>(words[i]) * kFloat16FixedUnit / static_cast<double>(count);
    const __int128 sum =
        static_cast<__int128>(words[i]) * (1 << 20) + words[i + static_cast<std::size_t>(k_ * dimension_)];
    return static_cast<double>(sum) * kFloat16FixedUnit / static_cast<double>(count);
  }

 protected:
  std::int64_t k_, dimension_;
  bool split_;
};

/// Sums of rows of each cluster, exactly, one accumulator per worker. Rows enter and leave: over an iteration only rows
/// that changed their cluster need be touched. A row of weight w counts as w equal rows.
class ExactSums : public SumWords {
 public:
  ExactSums(std::int64_t k, std::int64_t dimension, std::int64_t total_rows, float largest, int workers)
      : SumWords(k, dimension, total_rows, largest) {
    sums_.assign(static_cast<std::size_t>(workers), std::vector<std::uint64_t>(words()));
  }

  /// Moves a row from cluster `from` (none if negative) to cluster `to`. One thread per `worker`.
  void move(int worker, std::span<const float> row, std::int32_t from, std::int32_t to, std::int64_t weight = 1) {
    std::uint64_t* sums = sums_[static_cast<std::size_t>(worker)].data();
    if (split_) {
      const std::int64_t plane = k_ * dimension_;
      add<Part::high>(sums, row, from, to, weight);
      add<Part::low>(sums + plane, row, from, to, weight);
    } else {
      add<Part::whole>(sums, row, from, to, weight);
    }
  }

  /// Several rows of float16 bits into one cluster, with signs 1 (they come) and -1 (they go); unless split(). One
  /// thread per `worker`.
  void add(int worker, std::int32_t cluster, std::span<const std::uint16_t* const> rows,
           std::span<const signed char> signs) {
    kernels().add_halves(rows.data(), signs.data(), static_cast<std::int64_t>(rows.size()), dimension_,
                         sums_[static_cast<std::size_t>(worker)].data() + cluster * dimension_);
  }

  /// This rank's sums over its workers, as words to be summed over ranks.
  void total(std::span<std::int64_t> out) const {
    std::fill(out.begin(), out.end(), 0);
    for (const auto& sums : sums_) {
      for (std::size_t i = 0; i < sums.size(); ++i) {
        out[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(out[i]) + sums[i]);
      }
    }
  }

 private:
  enum class Part { whole, high, low };

  // Exact: a float16 has 11 significant bits, a unit row's value 25 at most but is below 2^24 in these units.
  template <Part part>
  static std::int64_t fixed(float value) {
    if constexpr (part == Part::whole) return static_cast<std::int32_t>(value * 0x1.0p24f);
    const auto high = static_cast<std::int32_t>(value * 0x1.0p4f);
    if constexpr (part == Part::high) return high;
    return static_cast<std::int32_t>(value * 0x1.0p24f - static_cast<float>(high) * 0x1.0p20f);
  }

  // Unsigned, because a worker's own balance of arrivals and departures may wrap; the total does not.
  template <Part part>
  void add(std::uint64_t* sums, std::span<const float> row, std::int32_t from, std::int32_t to,
           std::int64_t weight) const {
    add_to<part>(sums + to * dimension_, row, weight);
    if (from >= 0) add_to<part>(sums + from * dimension_, row, -weight);
  }
  template <Part part>
  void add_to(std::uint64_t* sums, std::span<const float> row, std::int64_t weight) const {
    if (weight == 1) {
      for (std::int64_t j = 0; j < dimension_; ++j) sums[j] += static_cast<std::uint64_t>(fixed<part>(row[j]));
    } else if (weight == -1) {
      for (std::int64_t j = 0; j < dimension_; ++j) sums[j] -= static_cast<std::uint64_t>(fixed<part>(row[j]));
    } else {
      for (std::int64_t j = 0; j < dimension_; ++j) sums[j] += static_cast<std::uint64_t>(fixed<part>(row[j]) * weight);
    }
  }

  std::vector<std::vector<std::uint64_t>> sums_;  // [worker][words()]
};

/// Squared distances as integers: their sum is exact and free of order. The unit is chosen from the largest value in
/// the data, which all ranks know, so that the largest possible distance stays below 2^60.
class DistanceScale {
 public:
  /// `largest` is the largest |value| of any row of the whole set; centroids are no larger.
  DistanceScale(float largest, std::int64_t dimension) {
    const double bound = 8.0 * static_cast<double>(dimension) * static_cast<double>(largest) * largest;
    if (bound > 0) exponent_ = 59 - std::ilogb(bound);
  }
  std::int64_t to_fixed(double distance) const { return std::llrint(std::ldexp(distance, exponent_)); }
  double to_double(__int128 sum) const { return std::ldexp(static_cast<double>(sum), -exponent_); }

  /// A sum as two words that may be summed over ranks and rows (2^40 rows at most) without overflow.
  static void split(__int128 sum, std::int64_t& high, std::int64_t& low) {
    high = static_cast<std::int64_t>(sum >> 40);
    low = static_cast<std::int64_t>(sum & ((__int128{1} << 40) - 1));
  }
  static __int128 join(std::int64_t high, std::int64_t low) { return (static_cast<__int128>(high) << 40) + low; }

 private:
  int exponent_ = 0;
};

}  // namespace moextract::cluster
