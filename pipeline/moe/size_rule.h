// How many neurons each expert of each layer gets: rules with one number between the smallest experts and all neurons,
// so that the number that meets a budget can be searched.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace moextract::moe {

enum class Budget {
  automatic,    ///< score_share for MoEE, threshold for least squares
  score_share,  ///< each expert the smallest set that holds a share p of its summed score (MoEE, arXiv 2505.15414)
  threshold,    ///< one threshold on the scores of all layers and experts (VBP, arXiv 2507.12988)
  layer_share,  ///< the same share of active neurons in each layer, one threshold within it
  sensitivity   ///< one threshold; a layer's scores are scaled by what compressing it alone was measured to cost
};

/// One expert's claim: what each of its neurons is worth, in the order in which they would be removed.
struct Claim {
  std::vector<double> worth;  ///< [H], not negative, not falling
  double factor = 1.0;        ///< brings claims of different experts and layers onto one scale (threshold rules)
  double price = 1.0;         ///< cost of one neuron, such as the share of tokens that go there (layer_share)
  std::int64_t layer = 0;
};

class SizeRule {
 public:
  virtual ~SizeRule() = default;
  /// Number of steps; the first gives the smallest experts allowed, the last all neurons.
  virtual std::int64_t steps() const = 0;
  /// Neurons kept of each claim; none falls from one step to the next.
  virtual std::vector<std::int64_t> sizes(std::int64_t step) const = 0;
};

/// `claims` must outlive the rule. Each expert keeps at least `minimum` neurons (or all it has). Equal scores go or
/// stay together under threshold rules. `budget` settled.
std::unique_ptr<SizeRule> make_size_rule(Budget budget, const std::vector<Claim>& claims, std::int64_t minimum);

/// score_share: the step of a share p in [0, 1], and back.
std::int64_t step_of_share(double share);
double share_of_step(std::int64_t step);

/// The last step whose sizes fit, for a `fits` that turns false once and stays so; -1 if even the first does not.
std::int64_t last_step_that_fits(const SizeRule& rule,
                                 const std::function<bool(const std::vector<std::int64_t>& sizes)>& fits);

}  // namespace moextract::moe
