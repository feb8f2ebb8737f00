#include "cluster/balancer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace moextract::cluster {
namespace {

constexpr double kFirstStep = 0.1, kLargestStep = 1;  // shares of the mean squared distance
constexpr double kGrow = 1.3, kShrink = 0.5;
// A cluster this near to the mean, as a share of what is allowed, is left alone.
constexpr double kNearEnough = 0.2;

double mean_of(std::span<const std::int64_t> sizes) {
  double sum = 0;
  for (const std::int64_t size : sizes) sum += static_cast<double>(size);
  return sum / static_cast<double>(sizes.size());
}

}  // namespace

Balancer::Balancer(std::int64_t k, double excess) : k_(k), excess_(excess) {
  if (is_on()) set_prices(std::vector<double>(static_cast<std::size_t>(k)));
}

void Balancer::set_prices(const std::vector<double>& prices) {
  MOEX_ASSERT(static_cast<std::int64_t>(prices.size()) == k_, "prices are not [k]");
  previous_ = prices_ = prices;
  steps_.assign(prices.size(), 0);
  directions_.assign(prices.size(), 0);
}

bool Balancer::is_even(std::span<const std::int64_t> sizes) const {
  if (!is_on()) return true;
  const std::int64_t largest = *std::max_element(sizes.begin(), sizes.end());
  return static_cast<double>(largest) <= std::ceil((1 + excess_) * mean_of(sizes) * (1 - 1e-12));
}

void Balancer::update(std::span<const std::int64_t> sizes, double square) {
  if (!is_on()) return;
  previous_ = prices_;
  const double mean = mean_of(sizes);
  for (std::size_t c = 0; c < prices_.size(); ++c) {
    const double off = static_cast<double>(sizes[c]) / mean - 1;
    const double direction = std::fabs(off) <= kNearEnough * excess_ ? 0 : off > 0 ? 1 : -1;
    if (steps_[c] == 0) steps_[c] = kFirstStep * square;
    if (direction * directions_[c] > 0) steps_[c] = std::min(steps_[c] * kGrow, kLargestStep * square);
    if (direction * directions_[c] < 0) steps_[c] *= kShrink;
    prices_[c] += direction * steps_[c] * std::min(1.0, std::fabs(off));
    if (direction != 0) directions_[c] = direction;
  }
  const double least = *std::min_element(prices_.begin(), prices_.end());
  for (double& price : prices_) price -= least;
}

std::vector<double> Balancer::state() const {
  std::vector<double> all;
  for (const auto* part : {&previous_, &prices_, &steps_, &directions_})
    all.insert(all.end(), part->begin(), part->end());
  return all;
}

void Balancer::restore(std::span<const double> state) {
  if (!is_on() || state.empty()) return;
  const auto k = static_cast<std::size_t>(k_);
  MOEX_ASSERT(state.size() == state_size(k_), "a balancer's state is not [4, k]");
  auto from = state.begin();
  for (auto* part : {&previous_, &prices_, &steps_, &directions_}) {
    part->assign(from, from + static_cast<std::ptrdiff_t>(k));
    from += static_cast<std::ptrdiff_t>(k);
  }
}

void Balancer::restore_previous(std::span<const double> state) {
  if (!is_on() || state.empty()) return;
  prices_.assign(state.begin(), state.begin() + k_);
}

}  // namespace moextract::cluster
