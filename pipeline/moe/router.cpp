#include "moe/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "model/device_tensors.h"
#include "model/splitting.h"

namespace moextract::moe {
namespace {

/// The lowest index of a largest value. NaN is larger than nothing.
std::int64_t index_of_largest(const float* row, std::int64_t k) {
  float most = row[0];
  std::int64_t chosen = 0;
  for (std::int64_t e = 1; e < k; ++e) {
    const bool larger = row[e] > most;
    most = larger ? row[e] : most;
    chosen = larger ? e : chosen;
  }
  return chosen;
}

}  // namespace

at::Tensor route_by_cosine(const at::Tensor& x, const at::Tensor& keys) {
  return route_linear(x, keys, {});
}

at::Tensor first_largest(const at::Tensor& scores) {
  // argmax of ATen does not promise which of several equal maxima it names; the lowest index is the rule here.
  const std::int64_t n = scores.size(0), k = scores.size(1);
  if (model::by_tensors(scores)) {
    const at::Tensor number = at::arange(k, scores.options().dtype(at::kLong));
    const at::Tensor largest = scores == scores.amax({1}, /*keepdim=*/true);
    return at::where(largest, number, k).amin({1}).clamp_max(k - 1);  // a NaN is equal to nothing
  }
  at::Tensor best = at::empty({n}, at::kLong);
  const at::Tensor whole = scores.contiguous();
  const float* score = whole.const_data_ptr<float>();
  std::int64_t* to = best.data_ptr<std::int64_t>();
  constexpr std::int64_t kRows = 512;
  model::split((n + kRows - 1) / kRows, [&](std::int64_t block) {
    for (std::int64_t i = block * kRows; i < std::min(n, (block + 1) * kRows); ++i) {
      to[i] = index_of_largest(score + i * k, k);
    }
  });
  return best;
}

at::Tensor route_linear(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& bias) {
  const at::NoGradGuard no_grad;
  return first_largest(at::linear(x, keys, bias));
}

at::Tensor route_packed(const at::Tensor& x, const model::PackedLinear& packed) {
  const std::int64_t n = x.size(0), width = packed.padded_out();
  at::Tensor best = at::empty({n}, at::kLong);
  const float* from = x.const_data_ptr<float>();
  std::int64_t* to = best.data_ptr<std::int64_t>();
  const model::RowBlocks blocks(n, model::kMostRows);
  model::split(blocks.count(), [&](std::int64_t block) {
    static thread_local std::vector<float> scores;  // of this thread; grows to the largest block it has seen
    const std::int64_t begin = blocks.begin(block), count = blocks.size(block);
    if (scores.size() < static_cast<std::size_t>(count * width)) scores.resize(static_cast<std::size_t>(count * width));
    const float* in[model::kMostRows];
    float* out[model::kMostRows];
    for (std::int64_t i = 0; i < count; ++i) {
      in[i] = from + (begin + i) * packed.in();
      out[i] = scores.data() + i * width;
    }
    packed.multiply(in, count, out, /*pad=*/true);
    for (std::int64_t i = 0; i < count; ++i) to[begin + i] = index_of_largest(out[i], packed.out());
  });
  return best;
}

at::Tensor unit_rows(const at::Tensor& rows) {
  return rows / rows.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace moextract::moe
