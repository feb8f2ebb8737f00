// How far centroids moved.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moextract::cluster {

/// The Euclidean distance between each of k centroids, [k, dimension], before and after.
inline std::vector<double> movements(std::span<const float> before, std::span<const float> after, std::int64_t k) {
  const std::size_t d = before.size() / static_cast<std::size_t>(k);
  std::vector<double> all;
  for (std::size_t first = 0; first < before.size(); first += d) {
    double squares = 0;
    for (std::size_t j = first; j < first + d; ++j) {
      const double difference = static_cast<double>(before[j]) - static_cast<double>(after[j]);
      squares += difference * difference;
    }
    all.push_back(std::sqrt(squares));
  }
  return all;
}

}  // namespace moextract::cluster
