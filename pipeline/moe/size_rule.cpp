#include "moe/size_rule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace moextract::moe {
namespace {

constexpr std::int64_t kShareSteps = std::int64_t{1} << 40;  // of p

std::int64_t size_of(const Claim& claim) {
  return static_cast<std::int64_t>(claim.worth.size());
}

std::int64_t kept_above(const Claim& claim, double threshold, std::int64_t minimum) {
  const auto first = std::upper_bound(claim.worth.begin(), claim.worth.end(), threshold,
                                      [&](double t, double worth) { return t < worth * claim.factor; });
  return std::max(claim.worth.end() - first, std::min(minimum, size_of(claim)));
}

class ScoreShare : public SizeRule {
 public:
  ScoreShare(const std::vector<Claim>& claims, std::int64_t minimum) : claims_(claims), minimum_(minimum) {
    for (const Claim& claim : claims) {
      std::vector<double> cumulative;  // from the largest down
      double sum = 0;
      std::int64_t positive = 0;
      for (auto worth = claim.worth.rbegin(); worth != claim.worth.rend(); ++worth) {
        cumulative.push_back(sum += *worth);
        positive += *worth > 0 ? 1 : 0;
      }
      cumulative_.push_back(std::move(cumulative));
      positive_.push_back(positive);
    }
  }
  std::int64_t steps() const override { return kShareSteps + 2; }
  std::vector<std::int64_t> sizes(std::int64_t step) const override {
    std::vector<std::int64_t> sizes;
    for (std::size_t i = 0; i < claims_.size(); ++i) {
      const std::int64_t all = size_of(claims_[i]), floor = std::min(minimum_, all);
      const double total = cumulative_[i].empty() ? 0.0 : cumulative_[i].back();
      std::int64_t size = floor;
      if (step > kShareSteps) {
        size = all;
      } else if (total > 0 && step == kShareSteps) {
        // Small scores vanish beside a large sum, so the sum alone does not tell where the positive scores end.
        size = std::max(positive_[i], floor);
      } else if (total > 0 && step > 0) {
        // A hair less, for steps round the share: a set that holds it exactly is enough.
        const double wanted = share_of_step(step) * total * (1 - 1e-11);
        const auto enough = std::lower_bound(cumulative_[i].begin(), cumulative_[i].end(), wanted);
        size = std::max(std::min<std::int64_t>(enough - cumulative_[i].begin() + 1, all), floor);
        size = std::min(size, std::max(positive_[i], floor));
      }
      sizes.push_back(size);
    }
    return sizes;
  }

 private:
  const std::vector<Claim>& claims_;
  std::int64_t minimum_;
  std::vector<std::vector<double>> cumulative_;
  std::vector<std::int64_t> positive_;
};

class Threshold : public SizeRule {
 public:
  Threshold(const std::vector<Claim>& claims, std::int64_t minimum) : claims_(claims), minimum_(minimum) {
    for (const Claim& claim : claims) {
      for (const double worth : claim.worth) levels_.push_back(worth * claim.factor);
    }
    std::sort(levels_.begin(), levels_.end());
    levels_.erase(std::unique(levels_.begin(), levels_.end()), levels_.end());
  }
  std::int64_t steps() const override { return static_cast<std::int64_t>(levels_.size()) + 1; }
  std::vector<std::int64_t> sizes(std::int64_t step) const override {
    const auto levels = static_cast<std::int64_t>(levels_.size());
    const double threshold = step < levels ? levels_[static_cast<std::size_t>(levels - 1 - step)] : -1.0;
    std::vector<std::int64_t> sizes;
    for (const Claim& claim : claims_) sizes.push_back(kept_above(claim, threshold, minimum_));
    return sizes;
  }

 private:
  const std::vector<Claim>& claims_;
  std::int64_t minimum_;
  std::vector<double> levels_;  // all scores, ascending, each once
};

/// One threshold within each layer, found for the same share of active neurons everywhere.
class LayerShare : public SizeRule {
 public:
  LayerShare(const std::vector<Claim>& claims, std::int64_t minimum) : claims_(claims) {
    for (std::size_t i = 0; i < claims.size(); ++i) {
      if (layers_.empty() || claims[i].layer != claims[i - 1].layer) layers_.emplace_back();
      layers_.back().claims.push_back(claims[i]);
      most_ = std::max(most_, size_of(claims[i]));
    }
    for (Layer& layer : layers_) layer.rule = std::make_unique<Threshold>(layer.claims, minimum);
  }
  std::int64_t steps() const override { return most_ + 1; }
  std::vector<std::int64_t> sizes(std::int64_t step) const override {
    std::vector<std::int64_t> all;
    for (const Layer& layer : layers_) {
      double price = 0;
      for (const Claim& claim : layer.claims) price += claim.price;
      const double room = price * static_cast<double>(step);  // mean neurons of a token
      const auto fits = [&](const std::vector<std::int64_t>& sizes) {
        double sum = 0;
        for (std::size_t i = 0; i < sizes.size(); ++i) sum += layer.claims[i].price * static_cast<double>(sizes[i]);
        return sum <= room * (1 + 1e-12);
      };
      const std::int64_t last = std::max<std::int64_t>(last_step_that_fits(*layer.rule, fits), 0);
      const std::vector<std::int64_t> own = layer.rule->sizes(last);
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }

 private:
  struct Layer {
    std::vector<Claim> claims;
    std::unique_ptr<Threshold> rule;
  };
  const std::vector<Claim>& claims_;
  std::vector<Layer> layers_;
  std::int64_t most_ = 0;
};

}  // namespace

std::unique_ptr<SizeRule> make_size_rule(Budget budget, const std::vector<Claim>& claims, std::int64_t minimum) {
  minimum = std::max<std::int64_t>(minimum, 1);
  switch (budget) {
    case Budget::score_share:
      return std::make_unique<ScoreShare>(claims, minimum);
    case Budget::threshold:
    case Budget::sensitivity:
      return std::make_unique<Threshold>(claims, minimum);
    case Budget::layer_share:
      return std::make_unique<LayerShare>(claims, minimum);
    case Budget::automatic:
      break;
  }
  MOEX_ASSERT(false, "the budget rule is settled before it is used");
}

std::int64_t step_of_share(double share) {
  return std::llround(std::clamp(share, 0.0, 1.0) * static_cast<double>(kShareSteps));
}

double share_of_step(std::int64_t step) {
  return std::min(1.0, static_cast<double>(step) / static_cast<double>(kShareSteps));
}

std::int64_t last_step_that_fits(const SizeRule& rule,
                                 const std::function<bool(const std::vector<std::int64_t>& sizes)>& fits) {
  if (!fits(rule.sizes(0))) return -1;
  std::int64_t low = 0, high = rule.steps();  // low fits; high does not, or is one too many
  while (low + 1 < high) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(rule.sizes(middle)) ? low : high) = middle;
  }
  return low;
}

}  // namespace moextract::moe
