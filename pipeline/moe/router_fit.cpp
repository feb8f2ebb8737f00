#include "moe/router_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/index_tensor.h"
#include "moe/ridge.h"
#include "moe/router.h"

namespace moextract::moe {
namespace {

constexpr std::int64_t kTrainingRows = 65536;  // of an MLP router, at most

/// What the closed forms need.
struct InputSums {
  at::Tensor count, mean;  // [k], [k, d] double
  at::Tensor within;       // [d, d] double: covariance within the clusters; linear only
};

InputSums sum_inputs(std::int64_t k, std::int64_t d, bool squares, const LabelledRows& rows) {
  at::Tensor count = at::zeros({k}, at::kDouble), sum = at::zeros({k, d}, at::kDouble),
             square = squares ? at::zeros({d, d}, at::kDouble) : at::Tensor();
  rows([&](const at::Tensor& x, const at::Tensor& label) {
    const at::Tensor index = (label >= 0).nonzero().squeeze(1);
    if (index.numel() == 0) return;
    const at::Tensor wide = x.index_select(0, index).to(at::kDouble), of = label.index_select(0, index);
    count.index_add_(0, of, at::ones({of.numel()}, at::kDouble));
    sum.index_add_(0, of, wide);
    if (squares) square.add_(at::mm(wide.t(), wide));
  });
  const at::Tensor mean = sum / count.clamp_min(1).unsqueeze(1);
  if (squares) {
    const double n = std::max(1.0, count.sum().item<double>());
    square = (square - at::mm((mean * count.unsqueeze(1)).t(), mean)) / n;
  }
  return {count, mean, square};
}

RouterWeights fit_linear(const InputSums& sums, double ridge) {
  const at::Tensor factor =
      ridge_factor(sums.within, absolute_ridge(sums.within, ridge), "the second moments of a layer's inputs");
  RouterWeights router;
  const at::Tensor keys = at::cholesky_solve(sums.mean.t().contiguous(), factor).t().contiguous();
  const at::Tensor prior = (sums.count / std::max(1.0, sums.count.sum().item<double>())).clamp_min(1e-9).log();
  router.keys = keys.to(at::kFloat);
  router.bias = (prior - 0.5 * (keys * sums.mean).sum(1)).to(at::kFloat);
  return router;
}

/// Adam (Kingma and Ba 2015) with its usual constants.
class Adam {
 public:
  Adam(std::vector<at::Tensor> weights, double rate) : weights_(std::move(weights)), rate_(rate) {
    for (const at::Tensor& w : weights_) first_.push_back(at::zeros_like(w)), second_.push_back(at::zeros_like(w));
  }
  void step() {
    const at::NoGradGuard no_grad;
    ++steps_;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const at::Tensor g = weights_[i].grad();
      first_[i].mul_(0.9).add_(g, 0.1);
      second_[i].mul_(0.999).addcmul_(g, g, 0.001);
      const at::Tensor m = first_[i] / (1 - std::pow(0.9, steps_)), v = second_[i] / (1 - std::pow(0.999, steps_));
      weights_[i].addcdiv_(m, v.sqrt().add_(1e-8), -rate_);
      weights_[i].mutable_grad().reset();
    }
  }

 private:
  std::vector<at::Tensor> weights_, first_, second_;
  double rate_;
  int steps_ = 0;
};

RouterWeights train_mlp(const RouterParams& params, std::int64_t k, std::int64_t d, const LabelledRows& rows) {
  std::vector<at::Tensor> inputs, labels;
  std::int64_t kept = 0;
  rows([&](const at::Tensor& x, const at::Tensor& label) {
    const std::int64_t room = std::min(kTrainingRows - kept, x.size(0));
    if (room <= 0) return;
    inputs.push_back(x.narrow(0, 0, room).clone());
    labels.push_back(label.narrow(0, 0, room).clone());
    kept += room;
  });
  at::Tensor x = at::cat(inputs, 0), label = at::cat(labels, 0);
  const at::Tensor known = (label >= 0).nonzero().squeeze(1);
  x = x.index_select(0, known);
  label = label.index_select(0, known);
  const std::int64_t n = x.size(0);
  const at::Tensor mean = x.mean(0), scale = (x - mean).square().mean(0).sqrt().clamp_min(1e-6);
  x = (x - mean) / scale;
  RandomStream random(params.seed, hash64("router"), 0);
  const auto normal = [&](std::int64_t rows_of, std::int64_t columns, double deviation) {
    at::Tensor w = at::empty({rows_of, columns});
    for (std::int64_t i = 0; i < w.numel(); ++i)
      w.data_ptr<float>()[i] = static_cast<float>(deviation * random.normal());
    return w.requires_grad_(true);
  };
  const std::int64_t r = params.hidden;
  const at::Tensor w1 = normal(r, d, 1 / std::sqrt(static_cast<double>(d))), b1 = at::zeros({r}).requires_grad_(true),
                   w2 = normal(k, r, 1 / std::sqrt(static_cast<double>(r))), b2 = at::zeros({k}).requires_grad_(true);
  Adam adam({w1, b1, w2, b2}, params.learning_rate);
  const std::int64_t batch = std::min(params.batch, n);
  std::vector<std::int64_t> order;
  std::size_t next = 0;
  for (std::int64_t step = 0; step < params.steps && n > 0; ++step) {
    const at::AutoGradMode with_grad(true);
    if (next + static_cast<std::size_t>(batch) > order.size()) order = random.permutation(n), next = 0;
    const at::Tensor index = model::index_tensor({order.data() + next, static_cast<std::size_t>(batch)});
    next += static_cast<std::size_t>(batch);
    const at::Tensor hidden = at::gelu(at::linear(x.index_select(0, index), w1, b1));
    const at::Tensor loss = at::cross_entropy_loss(at::linear(hidden, w2, b2), label.index_select(0, index));
    loss.backward();
    adam.step();
  }
  const at::NoGradGuard no_grad;
  RouterWeights router;
  router.hidden_weight = (w1.detach() / scale).contiguous();  // the standardisation folded in
  router.hidden_bias = b1.detach() - at::mv(router.hidden_weight, mean);
  router.keys = w2.detach().clone();
  router.bias = b2.detach().clone();
  return router;
}

}  // namespace

FittedRouter fit_router(const RouterParams& params, std::int64_t k, std::int64_t width, const Centroids& centroids,
                        const LabelledRows& rows) {
  MOEX_ASSERT(params.kind != RouterKind::automatic && k >= 1, "the kind of a router is settled before it is fitted");
  const at::NoGradGuard no_grad;
  FittedRouter fitted;
  RouterWeights& router = fitted.weights;
  if (params.kind == RouterKind::mlp && k > 1) {
    router = train_mlp(params, k, width, rows);
  } else if (params.kind == RouterKind::nearest && centroids.rows.defined()) {
    router = nearest_router(centroids);
  } else {
    const bool linear = params.kind == RouterKind::linear && k > 1;
    const InputSums sums = sum_inputs(k, width, linear, rows);
    if (linear) {
      router = fit_linear(sums, params.ridge);
    } else if (params.kind == RouterKind::cosine) {
      router.keys = unit_rows(sums.mean).to(at::kFloat);
    } else {
      router = nearest_router({.rows = sums.mean});
    }
  }
  if (params.kind == RouterKind::random) router.random_seed = params.seed;

  // How far apart the best two are, and how often the best is the own cluster's.
  double margin = 0;
  std::int64_t n = 0, known = 0, agreeing = 0;
  rows([&](const at::Tensor& x, const at::Tensor& label) {
    const at::Tensor scores = router_scores(router, x);
    const Choice choice = choose_experts(router, x);
    const std::int64_t* own = label.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < x.size(0); ++i, ++n) {
      const float* s = scores.const_data_ptr<float>() + i * k;
      float best = s[0], second = -std::numeric_limits<float>::infinity();
      for (std::int64_t e = 1; e < k; ++e) {
        if (s[e] > best) {
          second = std::exchange(best, s[e]);
        } else {
          second = std::max(second, s[e]);
        }
      }
      if (k > 1) margin += static_cast<double>(best) - second;
      if (own[i] < 0) continue;
      ++known;
      agreeing += choice.expert.const_data_ptr<std::int64_t>()[i * choice.expert.size(1)] == own[i] ? 1 : 0;
    }
  });
  const double mean_margin = n > 0 ? margin / static_cast<double>(n) : 0;
  router.temperature =
      static_cast<double>(static_cast<float>(params.temperature * (mean_margin > 0 ? mean_margin : 1)));
  router.top_k = std::min(params.top_k, k);
  router.tau = params.tau;
  if (router.random_seed) router.top_k = 1;
  fitted.agreement = known > 0 ? static_cast<double>(agreeing) / static_cast<double>(known) : 0;
  return fitted;
}

}  // namespace moextract::moe
