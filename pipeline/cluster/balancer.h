// Prices that make clusters even: each cluster's is added to the squared distances to its centroid, so that rows on its
// border go to its neighbours.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moextract::cluster {

/// Decides from reduced sizes alone, so all ranks have the same prices. Off with an excess of 0: no prices.
class Balancer {
 public:
  /// The largest cluster may hold 1 + `excess` times the mean.
  Balancer(std::int64_t k, double excess);

  bool is_on() const { return excess_ > 0; }
  /// [k], the least of them 0; empty if off.
  const std::vector<double>& prices() const { return prices_; }
  /// Other prices, found before; steps begin anew.
  void set_prices(const std::vector<double>& prices);

  /// Is the largest within its limit? Always, if off. A limit below the next whole row counts as that.
  bool is_even(std::span<const std::int64_t> sizes) const;
  /// A step of each price: up where a cluster is larger than the mean, down where it is smaller, by an amount that
  /// grows while it points the same way and halves when it turns (Riedmiller and Braun's Rprop, 1993). `square` is the
  /// mean squared distance of rows from their centroids, which is what prices are measured against.
  void update(std::span<const std::int64_t> sizes, double square);

  /// Prices before the last update, prices, steps and directions: what goes on to the same bits.
  std::vector<double> state() const;
  static std::size_t state_size(std::int64_t k) { return static_cast<std::size_t>(4 * k); }
  void restore(std::span<const double> state);
  /// Only the prices before the last update.
  void restore_previous(std::span<const double> state);

 private:
  std::int64_t k_;
  double excess_;
  std::vector<double> previous_, prices_, steps_, directions_;  // [k] each
};

}  // namespace moextract::cluster
