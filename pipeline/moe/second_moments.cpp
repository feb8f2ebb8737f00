#include "moe/second_moments.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/device_tensors.h"
#include "moe/token_groups.h"

namespace moextract::moe {
namespace {

constexpr double kUnits = 0x1.0p24;
constexpr double kLargestTerm = 0x1.0p36;  // of one micro-batch: sums of 2^3 such fit, or of 2^20 ordinary ones

constexpr std::int64_t kLargestSum = std::int64_t{1} << 62;  // one more term still fits

[[noreturn]] void fail_too_large(double value) {
  fail(ExitCode::numerics,
       "a second moment of hidden values is {}: the activations are not finite or far too large. Check the "
       "weights and the preprocessing",
       value);
}

std::int64_t to_units(double value) {
  if (!(std::abs(value) < kLargestTerm)) fail_too_large(value);
  return std::llrint(value * kUnits);
}

/// `most`: of what may come together.
void check_sum(std::int64_t sum, std::int64_t most) {
  if (sum > most || sum < -most) {
    fail(ExitCode::numerics,
         "the sum of second moments of hidden values over all tokens passes {:.3g}: the activations are far too large. "
         "Check the weights and the preprocessing, or take fewer calibration images",
         static_cast<double>(most) / kUnits);
  }
}

void add_units(std::int64_t& sum, double value) {
  sum += to_units(value);
  check_sum(sum, kLargestSum);
}

}  // namespace

double moment_sum_bytes(std::int64_t hidden, Extent extent) {
  const double n = static_cast<double>(hidden);
  return 8.0 * ((extent == Extent::full ? n * (n + 1) / 2 : n) + n + 2);
}

SecondMomentSums::SecondMomentSums(std::int64_t experts, std::int64_t hidden, Extent extent)
    : hidden_(hidden), extent_(extent) {
  for (std::int64_t e = 0; e < experts; ++e) {
    parts_.push_back(std::make_unique<Part>());
    parts_.back()->sums.assign(static_cast<std::size_t>(products() + hidden + 2), 0);
  }
}

void SecondMomentSums::add(const at::Tensor& h, const at::Tensor& expert, const at::Tensor& weight) {
  const at::NoGradGuard no_grad;
  if (model::by_tensors(h)) return add_by_tensors(h, expert, weight);
  for (std::int64_t e = 0; e < experts(); ++e) {
    const at::Tensor index = (expert == e).nonzero().squeeze(1);
    if (index.numel() == 0) continue;
    const at::Tensor rows = h.index_select(0, index), w = weight.index_select(0, index);
    const at::Tensor weighted = rows * w.unsqueeze(1);
    const bool full = extent_ == Extent::full;
    const at::Tensor square = full ? at::mm(weighted.t(), rows).contiguous() : (weighted * rows).sum(0).contiguous(),
                     sum = weighted.sum(0).contiguous();
    const float* s = square.const_data_ptr<float>();
    const float* m = sum.const_data_ptr<float>();
    Part& part = *parts_[static_cast<std::size_t>(e)];
    const std::lock_guard lock(part.mutex);
    std::int64_t* to = part.sums.data();
    for (std::int64_t i = 0; i < hidden_; ++i) {
      if (!full) add_units(*to++, s[i]);
      for (std::int64_t j = 0; full && j <= i; ++j) add_units(*to++, s[i * hidden_ + j]);
    }
    for (std::int64_t i = 0; i < hidden_; ++i) add_units(*to++, m[i]);
    add_units(*to++, w.sum(at::kDouble).item<double>());
    *to += index.numel();
  }
}

void SecondMomentSums::add_by_tensors(const at::Tensor& h, const at::Tensor& expert, const at::Tensor& weight) {
  const TokenGroups groups = group_tokens(expert, experts());
  std::vector<at::Tensor> largest, sums;
  for (std::size_t e = 0; e < parts_.size(); ++e) {
    if (groups.count(e) == 0) continue;
    const at::Tensor index = groups.of(e), rows = h.index_select(0, index).to(at::kDouble),
                     w = weight.index_select(0, index).to(at::kDouble), weighted = rows * w.unsqueeze(1);
    const at::Tensor square = extent_ == Extent::full ? at::mm(weighted.t(), rows) : (weighted * rows).sum(0);
    const at::Tensor terms = at::cat({square.reshape({-1}), weighted.sum(0), w.sum().reshape({1})});
    largest.push_back(terms.abs().amax());
    const at::Tensor units = (terms * kUnits).round_().to(at::kLong);
    Part& part = *parts_[e];
    const std::lock_guard lock(part.mutex);
    part.on_device = part.on_device.defined() ? part.on_device.add_(units) : units;
    part.sums.back() += groups.count(e);
    sums.push_back(part.on_device.abs().amax());
  }
  if (largest.empty()) return;
  to_units(at::stack(largest).max().item<double>());  // throws
  check_sum(at::stack(sums).max().item<std::int64_t>(), kLargestSum);
}

void SecondMomentSums::fetch(Part& part) {
  if (!part.on_device.defined()) return;
  const at::Tensor here = part.on_device.cpu();
  const std::int64_t* from = here.const_data_ptr<std::int64_t>();
  std::int64_t* to = part.sums.data();
  for (std::int64_t i = 0; i < hidden_; ++i) {
    if (extent_ == Extent::diagonal) *to++ += *from++;
    for (std::int64_t j = 0; extent_ == Extent::full && j <= i; ++j) *to++ += from[i * hidden_ + j];
  }
  if (extent_ == Extent::full) from += hidden_ * hidden_;
  for (std::int64_t i = 0; i <= hidden_; ++i) *to++ += *from++;  // sum of h, weight
  part.on_device.reset();
}

void SecondMomentSums::all_reduce(comm::Communicator& comm) {
  for (const auto& part : parts_) fetch(*part);
  comm.together([&] {
    for (const auto& part : parts_) {
      for (const std::int64_t sum : part->sums) check_sum(sum, kLargestSum / comm.size());
    }
  });
  for (const auto& part : parts_) comm.all_reduce(std::span<std::int64_t>(part->sums), comm::Reduction::sum);
}

SecondMoments SecondMomentSums::moments(std::int64_t expert) const {
  MOEX_ASSERT(!parts_.at(static_cast<std::size_t>(expert))->on_device.defined(),
              "sums on a device: all_reduce() first");
  const std::vector<std::int64_t>& sums = parts_.at(static_cast<std::size_t>(expert))->sums;
  const bool full = extent_ == Extent::full;
  SecondMoments m;
  m.count = sums.back();
  m.weight = static_cast<double>(sums[sums.size() - 2]) / kUnits;
  m.mean = at::zeros({hidden_}, at::kDouble);
  m.variance = at::zeros({hidden_}, at::kDouble);
  if (full) m.covariance = at::zeros({hidden_, hidden_}, at::kDouble);
  if (!(m.weight > 0)) return m;
  double* mean = m.mean.data_ptr<double>();
  const double scale = 1.0 / (kUnits * m.weight);
  for (std::int64_t i = 0; i < hidden_; ++i)
    mean[i] = static_cast<double>(sums[static_cast<std::size_t>(products() + i)]) * scale;
  const std::int64_t* from = sums.data();
  if (!full) {
    double* variance = m.variance.data_ptr<double>();
    for (std::int64_t i = 0; i < hidden_; ++i)
      variance[i] = std::max(0.0, static_cast<double>(from[i]) * scale - mean[i] * mean[i]);
    return m;
  }
  double* c = m.covariance.data_ptr<double>();
  for (std::int64_t i = 0; i < hidden_; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const double value = static_cast<double>(*from++) * scale - mean[i] * mean[j];
      c[i * hidden_ + j] = c[j * hidden_ + i] = value;
    }
  }
  m.variance = m.covariance.diagonal().clamp_min(0);
  return m;
}

SecondMoments unite_moments(const SecondMoments& a, const SecondMoments& b) {
  const at::NoGradGuard no_grad;
  if (!(b.weight > 0)) return a;
  if (!(a.weight > 0)) return b;
  SecondMoments all;
  all.count = a.count + b.count;
  all.weight = a.weight + b.weight;
  const double share = a.weight / all.weight;
  const at::Tensor apart = a.mean - b.mean;
  all.mean = a.mean * share + b.mean * (1 - share);
  if (a.covariance.defined()) {
    all.covariance = a.covariance * share + b.covariance * (1 - share);
    all.covariance.addr_(apart, apart, 1, share * (1 - share));
    all.variance = all.covariance.diagonal().clamp_min(0);
  } else {
    all.variance = a.variance * share + b.variance * (1 - share) + apart.square() * (share * (1 - share));
  }
  return all;
}

}  // namespace moextract::moe
