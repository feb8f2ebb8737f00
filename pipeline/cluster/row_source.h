// Where rows to be clustered come from: anything that can hand out blocks of float16 rows again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace moextract::cluster {

/// A block of consecutive local rows. `rows` is row-major [count, dimension], float16 bits, finite; valid during the
/// call.
struct RowBlock {
  std::int64_t first_local = 0;   ///< index of the first row within this rank's part
  std::int64_t first_global = 0;  ///< index of the first row within the whole set: what random draws are keyed by
  std::int64_t count = 0;
  std::span<const std::uint16_t> rows;
  /// [count]: row i counts as weights[i] equal rows (0: it gets a label and moves nothing), at most kMostWeight. Whole
  /// numbers keep the sums exact; scale real weights to them. Empty: every row counts once.
  std::span<const std::uint32_t> weights = {};
};
inline constexpr std::uint32_t kMostWeight = 1u << 20;

/// One rank's part of a set of rows. The part may be empty. Memory does not grow with the number of rows.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual std::int64_t dimension() const = 0;
  virtual std::int64_t local_rows() const = 0;
  /// Reads this rank's rows once, in the same order each time. Not collective.
  virtual void for_each_block(const std::function<void(const RowBlock&)>& visit) const = 0;
};

}  // namespace moextract::cluster
