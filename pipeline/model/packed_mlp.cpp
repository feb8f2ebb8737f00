#include "model/packed_mlp.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/error.h"
#include "model/packed_kernel.h"

namespace moextract::model {
namespace {

std::atomic<int> chosen{-1};

PackedKernel kernel_of(PackedSet set) {
#if defined(__x86_64__)
  if (set == PackedSet::avx512) return kPackedAvx512;
  if (set == PackedSet::avx2) return kPackedAvx2;
#endif
  return kPackedPortable;
}

PackedKernel kernel() {
  static const PackedSet best = is_supported(PackedSet::avx512)
                                    ? PackedSet::avx512
                                    : (is_supported(PackedSet::avx2) ? PackedSet::avx2 : PackedSet::portable);
  const int wanted = chosen.load(std::memory_order_relaxed);
  return kernel_of(wanted >= 0 ? static_cast<PackedSet>(wanted) : best);
}

/// Of a thread; grows to the largest block it has seen.
struct Scratch {
  std::vector<float> hidden;
  std::vector<const float*> in, middle_in;
  std::vector<float*> middle_out, out;
};

// Hidden values of a block: they should stay in the second-level cache beside a panel of weights.
constexpr std::int64_t kBlockValues = 96 * 1024;
constexpr std::int64_t kFewestRows = 12, kMostRows = 192;

/// The shape of x with another last dimension.
std::vector<std::int64_t> shape_with(const at::Tensor& x, std::int64_t last) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

}  // namespace

bool is_supported(PackedSet set) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (set == PackedSet::avx2) return avx2;
  if (set == PackedSet::avx512) return avx2 && __builtin_cpu_supports("avx512f");
#endif
  return set == PackedSet::portable;
}

void choose_packed_set(PackedSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
  chosen.store(static_cast<int>(set));
}

bool packed_applies(const at::Tensor& x) {
  return !at::GradMode::is_enabled() && x.scalar_type() == at::kFloat && x.device().is_cpu();
}

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, bool gelu)
    : in_(weight.size(1)), out_(weight.size(0)), gelu_(gelu) {
  const std::int64_t panels = (out_ + kPanelWidth - 1) / kPanelWidth;
  panels_ = at::zeros({panels, in_, kPanelWidth});
  bias_ = at::zeros({panels * kPanelWidth});
  const at::Tensor rows = weight.detach().contiguous();
  const float* from = rows.const_data_ptr<float>();
  float* to = panels_.data_ptr<float>();
  for (std::int64_t o = 0; o < out_; ++o) {
    float* column = to + (o / kPanelWidth * in_) * kPanelWidth + o % kPanelWidth;
    for (std::int64_t i = 0; i < in_; ++i) column[i * kPanelWidth] = from[o * in_ + i];
  }
  if (bias.defined()) {
    const at::Tensor values = bias.detach().contiguous();
    std::copy_n(values.const_data_ptr<float>(), out_, bias_.data_ptr<float>());
  }
}

void PackedLinear::multiply(const float* const* x, std::int64_t n, float* const* y, bool pad) const {
  kernel()({panels_.const_data_ptr<float>(), bias_.const_data_ptr<float>(), in_, out_, gelu_, pad}, x, n, y);
}

at::Tensor PackedLinear::forward(const at::Tensor& x) const {
  static thread_local Scratch scratch;
  scratch.in.resize(kMostRows);
  scratch.out.resize(kMostRows);
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty(shape_with(x, out_), x.options());
  const float* from = input.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  const std::int64_t n = in_ > 0 ? input.numel() / in_ : 0;
  for (std::int64_t begin = 0; begin < n; begin += kMostRows) {
    const std::int64_t count = std::min(kMostRows, n - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      scratch.in[static_cast<std::size_t>(i)] = from + (begin + i) * in_;
      scratch.out[static_cast<std::size_t>(i)] = to + (begin + i) * out_;
    }
    multiply(scratch.in.data(), count, scratch.out.data(), /*pad=*/false);
  }
  return y;
}

PackedMlp::PackedMlp(const at::Tensor& fc1_weight, const at::Tensor& fc1_bias, const at::Tensor& fc2_weight,
                     const at::Tensor& fc2_bias)
    : first_(fc1_weight, fc1_bias, /*gelu=*/true), second_(fc2_weight, fc2_bias, /*gelu=*/false) {}

template <typename RowOf>
void PackedMlp::run(const float* x, std::int64_t n, RowOf row_of, float* y, float* h) const {
  static thread_local Scratch scratch;
  const std::int64_t width = first_.padded_out(), hidden = first_.out();
  const std::int64_t most =
      std::clamp(kBlockValues / std::max<std::int64_t>(width, 1) / kFewestRows * kFewestRows, kFewestRows, kMostRows);
  scratch.hidden.resize(std::max(scratch.hidden.size(), static_cast<std::size_t>(most * width)));
  scratch.in.resize(kMostRows);
  scratch.out.resize(kMostRows);
  scratch.middle_in.resize(kMostRows);
  scratch.middle_out.resize(kMostRows);
  for (std::int64_t begin = 0; begin < n; begin += most) {
    const std::int64_t count = std::min(most, n - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int64_t row = row_of(begin + i);
      scratch.in[at] = x + row * first_.in();
      scratch.out[at] = y + row * second_.out();
      scratch.middle_in[at] = scratch.middle_out[at] = scratch.hidden.data() + i * width;
    }
    first_.multiply(scratch.in.data(), count, scratch.middle_out.data(), /*pad=*/true);
    if (h != nullptr) {
      for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(scratch.middle_in[static_cast<std::size_t>(i)], hidden, h + row_of(begin + i) * hidden);
      }
    }
    second_.multiply(scratch.middle_in.data(), count, scratch.out.data(), /*pad=*/false);
  }
}

void PackedMlp::forward(const float* x, std::span<const std::int64_t> rows, float* y, float* h) const {
  run(
      x, static_cast<std::int64_t>(rows.size()), [&](std::int64_t i) { return rows[static_cast<std::size_t>(i)]; }, y,
      h);
}

at::Tensor PackedMlp::forward(const at::Tensor& x, at::Tensor* h) const {
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty(shape_with(x, second_.out()), x.options());
  if (h != nullptr) *h = at::empty(shape_with(x, first_.out()), x.options());
  run(
      input.const_data_ptr<float>(), input.numel() / first_.in(), [](std::int64_t i) { return i; }, y.data_ptr<float>(),
      h != nullptr ? h->data_ptr<float>() : nullptr);
  return y;
}

}  // namespace moextract::model
