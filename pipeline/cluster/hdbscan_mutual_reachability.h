// The mutual reachability distance and the one order of all edges that makes the spanning tree unique.
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "cluster/hdbscan_neighbours.h"
#include "cluster/hdbscan_rows.h"

namespace moextract::cluster::hdbscan {

/// Edge of the mutual reachability graph, low < high. Edges are ordered by (weight, low, high): a total order, under
/// which a graph has exactly one minimum spanning tree.
struct Edge {
  double weight = std::numeric_limits<double>::infinity();
  std::int32_t low = std::numeric_limits<std::int32_t>::max();
  std::int32_t high = std::numeric_limits<std::int32_t>::max();

  bool operator==(const Edge&) const = default;
  bool operator<(const Edge& other) const {
    if (weight != other.weight) return weight < other.weight;
    return low != other.low ? low < other.low : high < other.high;
  }
};

/// Distance from each row to its min_samples-th nearest OTHER row (that many that there are), as the Python package
/// hdbscan has it; scikit-learn counts the row itself, so its min_samples is one more. `lists` must be that long.
inline std::vector<double> core_distances(const NeighbourLists& lists, std::int64_t min_samples) {
  std::vector<double> core(static_cast<std::size_t>(lists.count), 0.0);
  const std::int64_t at = std::min(min_samples, lists.length) - 1;
  for (std::int64_t i = 0; at >= 0 && i < lists.count; ++i) {
    core[static_cast<std::size_t>(i)] = lists.distances_of(i)[static_cast<std::size_t>(at)];
  }
  return core;
}

/// The rows, their core distances and alpha: all that a weight depends on.
struct MutualReachability {
  std::span<const float> rows;  ///< [n, dimension]
  std::int64_t dimension = 0;
  std::span<const double> core;  ///< [n]
  double alpha = 1;

  double weight(std::int32_t i, std::int32_t j, double distance) const {
    return std::max({core[static_cast<std::size_t>(i)], core[static_cast<std::size_t>(j)], distance / alpha});
  }
  double distance(std::int32_t i, std::int32_t j) const {
    return std::sqrt(exact_squared_distance(rows.data() + i * dimension, rows.data() + j * dimension, dimension));
  }
  Edge edge(std::int32_t i, std::int32_t j, double distance) const {
    return {weight(i, j, distance), std::min(i, j), std::max(i, j)};
  }
};

}  // namespace moextract::cluster::hdbscan
