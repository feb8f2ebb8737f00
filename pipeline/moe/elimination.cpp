#include "moe/elimination.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "model/index_tensor.h"
#include "moe/ridge.h"

namespace moextract::moe {
namespace {

constexpr const char* kWhat = "the second moments of an expert";

/// P = (C + r I)^-1 of the neurons that are left, and W refitted to them.
///
/// Dropping a set B takes P_RB P_BB^-1 P_BR off P. With P_BB = L L^T that is Z^T Z, Z = L^-1 P_BR; the Z of many sets
/// are kept, and taken off at once by one large product. Until then a row of P is the stored one less what is pending.
class Remaining {
 public:
  static constexpr std::int64_t kMostPending = 256;  ///< neurons whose Z are kept; no set may be larger

  Remaining(const at::Tensor& weights, const at::Tensor& covariance, double ridge)
      : p_(at::cholesky_inverse(ridge_factor(covariance, absolute_ridge(covariance, ridge), kWhat))),
        w_(weights.clone()) {
    neurons_.resize(static_cast<std::size_t>(weights.size(1)));
    std::iota(neurons_.begin(), neurons_.end(), 0);
    begin();
  }

  std::int64_t count() const { return static_cast<std::int64_t>(neurons_.size()) - gone_count_; }
  std::int64_t neuron(std::int64_t place) const { return neurons_[static_cast<std::size_t>(place)]; }

  /// The `n` places whose removal costs least, the cheapest first, and the costs of all places.
  std::vector<std::int64_t> cheapest(std::int64_t n, at::Tensor& costs) const {
    costs = (w_.square().sum(0) / diagonal_).contiguous();
    const double* cost = costs.const_data_ptr<double>();
    std::vector<std::int64_t> places;
    for (std::size_t j = 0; j < neurons_.size(); ++j) {
      if (!gone_[j]) places.push_back(static_cast<std::int64_t>(j));
    }
    std::partial_sort(places.begin(), places.begin() + n, places.end(),
                      [&](std::int64_t a, std::int64_t b) { return cost[a] != cost[b] ? cost[a] < cost[b] : a < b; });
    places.resize(static_cast<std::size_t>(n));
    return places;
  }

  void drop(std::vector<std::int64_t> places) {
    std::sort(places.begin(), places.end());
    const at::Tensor b = model::index_tensor(places);
    const auto n = static_cast<std::int64_t>(places.size());
    if (pending_ + n > kMostPending) fold(b);  // `b` is renumbered
    at::Tensor p_b = p_.index_select(0, b);
    if (pending_ > 0) {
      const at::Tensor z = z_.narrow(0, 0, pending_);
      p_b.addmm_(z.index_select(1, b).t(), z, 1, -1);
    }
    const at::Tensor factor = ridge_factor(p_b.index_select(1, b), 0, kWhat);
    const at::Tensor z = at::linalg_solve_triangular(factor, p_b, /*upper=*/false);
    // W - W_B P_BB^-1 P_B, with W_B L^-T before Z.
    const at::Tensor w_b = at::linalg_solve_triangular(factor, w_.index_select(1, b).t(), /*upper=*/false);
    w_.addmm_(w_b.t(), z, 1, -1);
    diagonal_.sub_(z.square().sum(0));
    z_.narrow(0, pending_, n).copy_(z);
    pending_ += n;
    const std::int64_t* place = b.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < n; ++i) gone_[static_cast<std::size_t>(place[i])] = true;
    gone_count_ += n;
  }

 private:
  void begin() {
    diagonal_ = p_.diagonal().clone();
    z_ = at::empty({kMostPending, p_.size(0)}, at::kDouble);
    gone_.assign(neurons_.size(), false);
    pending_ = gone_count_ = 0;
  }

  /// Takes off what is pending and closes the gaps. `places` become the new ones.
  void fold(const at::Tensor& places) {
    std::vector<std::int64_t> left, moved(neurons_.size(), -1), left_neurons;
    for (std::size_t j = 0; j < neurons_.size(); ++j) {
      if (gone_[j]) continue;
      moved[j] = static_cast<std::int64_t>(left.size());
      left.push_back(static_cast<std::int64_t>(j));
      left_neurons.push_back(neurons_[j]);
    }
    std::int64_t* place = places.data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < places.numel(); ++i) place[i] = moved[static_cast<std::size_t>(place[i])];
    const at::Tensor r = model::index_tensor(left), z = z_.narrow(0, 0, pending_).index_select(1, r);
    p_ = p_.index_select(0, r).index_select(1, r);
    p_.addmm_(z.t(), z, 1, -1);
    w_ = w_.index_select(1, r);
    neurons_ = std::move(left_neurons);
    begin();
  }

  at::Tensor p_, w_, diagonal_, z_;
  std::vector<std::int64_t> neurons_;  // of each place
  std::vector<bool> gone_;             // places dropped since the last fold
  std::int64_t pending_ = 0, gone_count_ = 0;
};

}  // namespace

EliminationOrder eliminate(const at::Tensor& weights, const at::Tensor& covariance, const EliminationParams& params) {
  const at::NoGradGuard no_grad;
  EliminationOrder order;
  Remaining remaining(weights, covariance, params.ridge);
  double floor = 0;
  while (remaining.count() > 0) {
    const std::int64_t n = remaining.count();
    const std::int64_t block =
        std::min(n, std::clamp<std::int64_t>(std::min(params.block, n / 8 + 1), 1, Remaining::kMostPending));
    at::Tensor costs;
    std::vector<std::int64_t> places = remaining.cheapest(block, costs);
    for (const std::int64_t place : places) {
      floor = std::max(floor, costs.const_data_ptr<double>()[place]);
      order.neurons.push_back(remaining.neuron(place));
      order.cost.push_back(floor);
    }
    if (block == n) break;
    remaining.drop(std::move(places));
  }
  return order;
}

at::Tensor refit(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept, double ridge) {
  const at::NoGradGuard no_grad;
  const at::Tensor s = model::index_tensor(kept), c_s = covariance.index_select(0, s);
  const at::Tensor kept_weights = w.index_select(1, s);
  // The error of dropping what is not kept, seen by the kept: W_B C_BS = W C_:S - W_S C_SS.
  const at::Tensor c_ss = c_s.index_select(1, s);
  const at::Tensor target = at::mm(w, c_s.t()) - at::mm(kept_weights, c_ss);
  const at::Tensor factor = ridge_factor(c_ss, absolute_ridge(covariance, ridge), kWhat);
  return kept_weights + at::cholesky_solve(target.t().contiguous(), factor).t();
}

double output_error(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept,
                    const at::Tensor& refitted) {
  const at::NoGradGuard no_grad;
  at::Tensor difference = w.clone();
  difference.index_add_(1, model::index_tensor(kept), refitted, -1);
  return (at::mm(difference, covariance) * difference).sum().item<double>();
}

}  // namespace moextract::moe
