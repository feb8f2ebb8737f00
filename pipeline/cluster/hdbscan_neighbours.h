// The nearest rows of each row, exactly, in one pass over pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "cluster/hdbscan_rows.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster::hdbscan {

/// Nearest rows in ascending order of (distance, index). Distance is the rounded square root of
/// exact_squared_distance().
struct NeighbourLists {
  std::int64_t count = 0, length = 0;
  std::vector<std::int32_t> index;  ///< [count, length]
  std::vector<double> distance;     ///< [count, length]

  std::span<const std::int32_t> indices_of(std::int64_t i) const {
    return std::span(index).subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length));
  }
  std::span<const double> distances_of(std::int64_t i) const {
    return std::span(distance).subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length));
  }
};

/// Collective; every rank passes the same `rows` ([count, dimension]), its `fast` form and panels of all rows in
/// ascending order, and returns the same lists: the min(length, count - 1) nearest OTHER rows of each row. Pairs are
/// dealt over ranks and workers, each pair looked at once.
/// Memory: some (24 length + 400) bytes a row. Throws Stopped as Leave says.
NeighbourLists nearest_neighbours(std::span<const float> rows, const FastRows& fast, const Panels& panels,
                                  std::int64_t length, comm::Communicator& comm, Workers& workers,
                                  const std::function<bool()>& should_stop = {});

/// Not collective. The min(length, rows in `panels`) nearest rows of `to` ([m, dimension], fast form `fast_to`, panels
/// in ascending order) for each row of `from`.
NeighbourLists nearest_among(std::span<const float> from, const FastRows& fast_from, std::span<const float> to,
                             const FastRows& fast_to, const Panels& panels, std::int64_t length, Workers& workers);

}  // namespace moextract::cluster::hdbscan
