// Which neurons an expert keeps.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace moextract::moe {

/// Neurons of one cluster in descending order of score (the lower index first on ties), ready to be cut at any share.
class NeuronRanking {
 public:
  /// `score` [H], not negative.
  explicit NeuronRanking(std::span<const double> score);
  /// Number of neurons in the smallest set that holds at least `share` of the summed score, and at least `minimum`
  /// (never more than H). Share 1 keeps every neuron with a positive score; a summed score of 0 keeps `minimum`.
  std::int64_t size_at(double share, std::int64_t minimum) const;
  /// That set, indices ascending.
  std::vector<std::int64_t> take(double share, std::int64_t minimum) const;

 private:
  std::vector<std::int64_t> order_;
  std::vector<double> cumulative_;  // summed from the largest down, in order
  std::int64_t positive_ = 0;       // neurons with a score above 0
};

/// The largest share p in [0, 1] with cost(p) <= target, for a cost that does not fall with p; found by bisection to
/// the last bit that matters. Throws UserError (config) naming `key` and the nearest cost that can be had if even p = 0
/// costs more.
double largest_share_within(double target, const std::function<double(double share)>& cost, const std::string& key);

}  // namespace moextract::moe
