// The innermost loop of every pass over pairs of rows: lower bounds of squared distances of 8 rows to a panel of 48,
// and which of them are small enough to be looked at. AVX-512, AVX2 or plain C++, chosen when the program runs.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace moextract::cluster::hdbscan {

inline constexpr int kGroupRows = 8;
inline constexpr int kPanelColumns = 48;

/// What one call works on. For row r and column c the kernel computes, in float,
///     t = column_norms[c] - 2 (rows[r] . panel column c) + row_norms[r]
/// with one accumulator for each (r, c) and dimensions in ascending order, fused multiply-adds where the processor has
/// them. A norm that is NaN marks padding: its t never passes a test.
struct TileJob {
  std::array<const float*, kGroupRows> rows = {};  ///< each [dimension]
  const float* panel = nullptr;                    ///< [dimension, 48], aligned to 64 bytes
  std::int64_t dimension = 0;
  const float* row_norms = nullptr;      ///< [8]
  const float* column_norms = nullptr;   ///< [48], aligned to 64 bytes
  const float* row_bounds = nullptr;     ///< [8]
  const float* column_bounds = nullptr;  ///< [48] either(): bounds of t; both(): values held against row_limits
  const float* row_limits = nullptr;     ///< [8], both() only
};

struct TileHits {
  alignas(64) std::array<float, kGroupRows * kPanelColumns> t;  ///< all of them, set if any mask has a bit
  std::array<std::uint64_t, kGroupRows> by_row;                 ///< bit c: t <= row_bounds[r] (and, for both(), limits)
  std::array<std::uint64_t, kGroupRows> by_column;              ///< bit c: t <= column_bounds[c]; either() only
};

struct Kernel {
  const char* name;
  /// Tests each t against its row's bound and against its column's bound. Returns whether any passes.
  bool (*either)(const TileJob& job, TileHits& hits);
  /// Tests t <= row_bounds[r] and column_bounds[c] <= row_limits[r]. Returns whether any passes.
  bool (*both)(const TileJob& job, TileHits& hits);
};

/// The kernels this processor can run, fastest first; the plain one is always among them.
const std::vector<Kernel>& kernels();

}  // namespace moextract::cluster::hdbscan
