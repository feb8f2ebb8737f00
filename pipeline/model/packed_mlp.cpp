#include "model/packed_mlp.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "model/splitting.h"

namespace moextract::model {
namespace {

// Hidden values of a block: they should stay in the second-level cache beside a panel of weights, but the weights of a
// wide layer, which come from farther, should serve many rows: 90 are a fifth faster than 30 at 3,072 neurons.
constexpr std::int64_t kBlockValues = 96 * 1024;
constexpr std::int64_t kFewestRows = 90;

}  // namespace

PackedMlp::PackedMlp(const at::Tensor& fc1_weight, const at::Tensor& fc1_bias, const at::Tensor& fc2_weight,
                     const at::Tensor& fc2_bias, Precision precision)
    : first_(fc1_weight, fc1_bias, /*gelu=*/true, precision),
      second_(fc2_weight, fc2_bias, /*gelu=*/false, precision) {}

std::int64_t PackedMlp::block_rows() const {
  const std::int64_t rows = kBlockValues / std::max<std::int64_t>(first_.padded_out(), 1);
  return std::clamp(rows, kFewestRows, kMostRows);
}

template <typename RowOf, typename HiddenOf>
void PackedMlp::run(const float* x, std::int64_t n, const RowOf& row_of, float* y, const HiddenOf& hidden_of) const {
  static thread_local std::vector<float> values;  // of this thread; grows to the largest block it has seen
  const std::int64_t width = first_.padded_out(), hidden = first_.out(), most = block_rows();
  if (values.size() < static_cast<std::size_t>(most * width)) values.resize(static_cast<std::size_t>(most * width));
  const float *in[kMostRows], *middle_in[kMostRows];
  float *middle_out[kMostRows], *out[kMostRows];
  const std::int64_t blocks = (n + most - 1) / most;
  for (std::int64_t block = 0; block < blocks; ++block) {  // of equal size within a row
    const std::int64_t begin = n * block / blocks, count = n * (block + 1) / blocks - begin;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = row_of(begin + i);
      in[i] = x + row * first_.in();
      out[i] = y + row * second_.out();
      middle_in[i] = middle_out[i] = values.data() + i * width;
    }
    first_.multiply(in, count, middle_out, /*pad=*/true, &second_);
    for (std::int64_t i = 0; i < count; ++i) {
      if (float* h = hidden_of(row_of(begin + i)); h != nullptr) std::copy_n(middle_in[i], hidden, h);
    }
    second_.multiply(middle_in, count, out, /*pad=*/false, &first_);
  }
}

void PackedMlp::forward(const float* x, std::span<const std::int64_t> rows, float* y, float* h) const {
  run(
      x, static_cast<std::int64_t>(rows.size()), [&](std::int64_t i) { return rows[static_cast<std::size_t>(i)]; }, y,
      [&](std::int64_t row) { return h != nullptr ? h + row * hidden() : nullptr; });
}

at::Tensor PackedMlp::forward(const at::Tensor& x, at::Tensor* h, std::span<const std::int64_t> rows) const {
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty(shape_with(x, second_.out()), x.options());
  const float* from = input.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  const std::int64_t n = input.numel() / first_.in();
  const RowBlocks dealt(n, block_rows());
  const auto blocks = [&](const auto& hidden_of) {
    split(dealt.count(), [&](std::int64_t block) {
      const std::int64_t begin = dealt.begin(block);
      run(
          from, dealt.size(block), [&](std::int64_t i) { return begin + i; }, to, hidden_of);
    });
  };
  if (h == nullptr) {
    blocks([](std::int64_t) -> float* { return nullptr; });
  } else if (rows.empty()) {
    *h = at::empty(shape_with(x, hidden()), x.options());
    float* kept = h->data_ptr<float>();
    blocks([&](std::int64_t row) { return kept + row * hidden(); });
  } else {
    *h = at::empty({static_cast<std::int64_t>(rows.size()), hidden()}, x.options());
    std::vector<float*> place(static_cast<std::size_t>(n), nullptr);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      place[static_cast<std::size_t>(rows[i])] = h->data_ptr<float>() + static_cast<std::int64_t>(i) * hidden();
    }
    blocks([&](std::int64_t row) { return place[static_cast<std::size_t>(row)]; });
  }
  return y;
}

}  // namespace moextract::model
