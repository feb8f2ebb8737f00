#include "moe/selection.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace moextract::moe {

NeuronRanking::NeuronRanking(std::span<const double> score) : order_(score.size()), cumulative_(score.size()) {
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) { return score[a] > score[b]; });
  double sum = 0;
  for (std::size_t i = 0; i < order_.size(); ++i) {
    cumulative_[i] = (sum += score[order_[i]]);
    if (score[order_[i]] > 0) ++positive_;
  }
}

std::int64_t NeuronRanking::size_at(double share, std::int64_t minimum) const {
  const auto all = static_cast<std::int64_t>(order_.size());
  const std::int64_t floor = std::min(std::max<std::int64_t>(minimum, 1), all);
  const double total = cumulative_.empty() ? 0.0 : cumulative_.back();
  if (!(total > 0)) return floor;
  // Small scores vanish beside a large sum, so the sum alone does not tell where the positive scores end.
  if (share >= 1) return std::max(positive_, floor);
  const auto enough = std::lower_bound(cumulative_.begin(), cumulative_.end(), share * total);
  const std::int64_t size = std::min<std::int64_t>(enough - cumulative_.begin() + 1, all);
  return share <= 0 ? floor : std::max(size, floor);
}

std::vector<std::int64_t> NeuronRanking::take(double share, std::int64_t minimum) const {
  std::vector<std::int64_t> chosen(order_.begin(), order_.begin() + size_at(share, minimum));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

double largest_share_within(double target, const std::function<double(double)>& cost, const std::string& key) {
  if (const double least = cost(0.0); least > target) {
    fail(ExitCode::config,
         "{}: {:.4g} cannot be met: the smallest experts allowed cost {:.4g}. Ask for that or more, or lower "
         "assemble.min_neurons",
         key, target, least);
  }
  if (cost(1.0) <= target) return 1.0;
  double low = 0.0, high = 1.0;  // cost(low) <= target < cost(high)
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (cost(middle) <= target ? low : high) = middle;
  }
  return low;
}

}  // namespace moextract::moe
