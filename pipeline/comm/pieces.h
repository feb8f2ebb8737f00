// How large the pieces are into which the collectives cut long buffers. Nothing but tests changes them.
#pragma once

#include <algorithm>
#include <cstddef>

namespace moextract::comm {

struct PieceSizes {
  /// Bytes a single MPI call moves. MPI counts are `int`, and several transports misbehave close to 2^31 bytes, so the
  /// default keeps well away from it; at this length the cost of the extra calls cannot be measured.
  std::size_t mpi_bytes = std::size_t{1} << 28;
  /// Bytes of all ranks' parts together that all_reduce_ordered holds at once.
  std::size_t ordered_bytes = std::size_t{1} << 24;
};

/// The sizes in force, the same on every rank. A test hook: change them only while no collective runs.
PieceSizes& piece_sizes() noexcept;

/// Elements of `element_bytes` in a piece of `piece_bytes`, at least one.
constexpr std::size_t piece_length(std::size_t piece_bytes, std::size_t element_bytes) noexcept {
  return std::max<std::size_t>(1, piece_bytes / element_bytes);
}

}  // namespace moextract::comm
