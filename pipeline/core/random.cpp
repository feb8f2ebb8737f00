#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <unordered_set>

namespace moextract {

double RandomStream::normal() {
  const double u = 1.0 - uniform();  // (0, 1], so that the logarithm is finite
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

std::vector<std::int64_t> RandomStream::sample(std::int64_t count, std::int64_t bound) {
  std::vector<std::int64_t> chosen;
  if (count >= bound) {
    chosen.resize(static_cast<std::size_t>(std::max<std::int64_t>(bound, 0)));
    std::iota(chosen.begin(), chosen.end(), 0);
    return chosen;
  }
  // Floyd's algorithm: `count` draws whatever the bound.
  std::unordered_set<std::int64_t> seen;
  for (std::int64_t j = bound - count; j < bound; ++j) {
    const auto t = static_cast<std::int64_t>(below(static_cast<std::uint64_t>(j) + 1));
    chosen.push_back(seen.insert(t).second ? t : (seen.insert(j), j));
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<std::int64_t> RandomStream::permutation(std::int64_t count) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = count - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[below(static_cast<std::uint64_t>(i) + 1)]);
  }
  return order;
}

}  // namespace moextract
