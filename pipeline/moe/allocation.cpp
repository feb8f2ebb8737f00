#include "moe/allocation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace moextract::moe {
namespace {

std::int64_t kept_above(const Claim& claim, double threshold, std::int64_t minimum) {
  const auto hidden = static_cast<std::int64_t>(claim.worth.size());
  const auto first = std::upper_bound(claim.worth.begin(), claim.worth.end(), threshold,
                                      [&](double t, double worth) { return t < worth * claim.factor; });
  return std::max(claim.worth.end() - first, std::min(minimum, hidden));
}

double price_at(const std::vector<Claim>& claims, double threshold, std::int64_t minimum) {
  double sum = 0;
  for (const Claim& claim : claims) sum += claim.price * static_cast<double>(kept_above(claim, threshold, minimum));
  return sum;
}

}  // namespace

std::vector<std::int64_t> allocate(const std::vector<Claim>& claims, std::int64_t minimum, double budget,
                                   const char* key) {
  constexpr double kEverything = -1.0;
  double low = kEverything, high = 0;
  for (const Claim& claim : claims) {
    if (!claim.worth.empty()) high = std::max(high, claim.worth.back() * claim.factor);
  }
  if (const double least = price_at(claims, high, minimum); least > budget) {
    fail(
        ExitCode::config,
        "{}: cannot be met: the smallest experts allowed cost {:.4g}, {:.4g} are left for them. Ask for more, or lower "
        "assemble.min_neurons",
        key, least, budget);
  }
  if (price_at(claims, low, minimum) > budget) {
    // price(low) > budget >= price(high): bisection until the two are neighbouring numbers.
    low = 0;
    if (price_at(claims, low, minimum) <= budget) high = low;
    while (std::nextafter(low, high) < high) {
      const double middle = 0.5 * (low + high);
      (price_at(claims, middle, minimum) > budget ? low : high) = middle;
    }
  } else {
    high = kEverything;
  }
  std::vector<std::int64_t> kept;
  for (const Claim& claim : claims) kept.push_back(kept_above(claim, high, minimum));
  return kept;
}

}  // namespace moextract::moe
