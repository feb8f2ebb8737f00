#include "model/packed_linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "model/device_tensors.h"
#include "model/splitting.h"

namespace moextract::model {
namespace {

/// Of a thread: rows in the product's own numbers.
struct Scratch {
  std::vector<float> rounded, step;
  std::vector<std::int16_t> quantised;
  std::vector<const float*> rounded_rows;
  std::vector<const std::int16_t*> quantised_rows;
};

template <typename T>
void grow(std::vector<T>& values, std::int64_t size) {
  if (values.size() < static_cast<std::size_t>(size)) values.resize(static_cast<std::size_t>(size));
}

}  // namespace

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::bfloat16:
      return "bfloat16";
    case Precision::int16:
      return "int16";
    case Precision::float32:
      break;
  }
  return "float32";
}

std::vector<std::int64_t> shape_with(const at::Tensor& x, std::int64_t last) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

bool packed_applies(const at::Tensor& x) {
  return !at::GradMode::is_enabled() && x.scalar_type() == at::kFloat && !by_tensors(x);
}

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, bool gelu, Precision precision)
    : gelu_(gelu) {
  const at::Tensor rows = weight.detach().contiguous(),
                   values = bias.defined() ? bias.detach().contiguous() : at::Tensor();
  std::vector<const float*> row(static_cast<std::size_t>(rows.size(0)));
  for (std::int64_t o = 0; o < rows.size(0); ++o) {
    row[static_cast<std::size_t>(o)] = rows.const_data_ptr<float>() + o * rows.size(1);
  }
  pack(row.data(), rows.size(0), rows.size(1), bias.defined() ? values.const_data_ptr<float>() : nullptr, precision);
}

void PackedLinear::make_room(std::int64_t out, std::int64_t in, Precision precision) {
  if (in == in_ && out == out_ && precision == precision_ && !bias_.empty()) return;  // the padding is zero already
  const std::int64_t panels = (out + kPanelWidth - 1) / kPanelWidth, pairs = (in + 1) / 2;
  const bool integers = precision == Precision::int16;
  MOEX_ASSERT(!integers || in <= 32768, "rows this long are not covered by the step's rounding allowance");
  panels_.assign(static_cast<std::size_t>(integers ? 0 : panels * in * kPanelWidth), 0.0f);
  panels16_.assign(static_cast<std::size_t>(integers ? panels * pairs * kPanelWidth * 2 : 0), 0);
  step_.assign(static_cast<std::size_t>(integers ? panels * kPanelWidth : 0), 0.0f);
  bias_.assign(static_cast<std::size_t>(panels * kPanelWidth), 0.0f);
  in_ = in, out_ = out, precision_ = precision;
}

void PackedLinear::pack(const float* const* rows, std::int64_t out, std::int64_t in, const float* bias,
                        Precision precision) {
  const std::int64_t pairs = (in + 1) / 2;
  make_room(out, in, precision);
  if (bias != nullptr) std::copy_n(bias, out, bias_.begin());
  const PackedKernels& run = kernels();
  if (precision == Precision::int16) {
    static thread_local std::vector<std::int16_t> quantised;
    grow(quantised, kPanelWidth * 2 * pairs);
    for (std::int64_t first = 0; first < out; first += kPanelWidth) {
      const std::int64_t count = std::min<std::int64_t>(kPanelWidth, out - first);
      run.quantise(rows + first, count, in, quantised.data(), 2 * pairs, step_.data() + first);
      std::int16_t* panel = panels16_.data() + first * pairs * 2;
      for (std::int64_t i = 0; i < pairs; ++i, panel += kPanelWidth * 2) {
        for (std::int64_t o = 0; o < count; ++o) {
          std::memcpy(panel + o * 2, quantised.data() + (o * pairs + i) * 2, 2 * sizeof(std::int16_t));
        }
      }
    }
    return;
  }
  static thread_local std::vector<float> row;
  grow(row, in);
  for (std::int64_t o = 0; o < out; ++o) {
    const float* values = rows[o];
    if (precision == Precision::bfloat16) {
      run.round_bfloat16(values, in, row.data());
      values = row.data();
    }
    float* column = panels_.data() + (o / kPanelWidth * in) * kPanelWidth + o % kPanelWidth;
    for (std::int64_t i = 0; i < in; ++i) column[i * kPanelWidth] = values[i];
  }
}

void PackedLinear::pack_transposed(const float* columns, std::int64_t row, std::int64_t out, std::int64_t in,
                                   Precision precision) {
  make_room(out, in, precision);
  if (precision == Precision::int16) {
    kernels().quantise_columns(columns, row, in, out, panels16_.data(), step_.data());
    return;
  }
  for (std::int64_t first = 0; first < out; first += kPanelWidth) {
    const std::int64_t count = std::min<std::int64_t>(kPanelWidth, out - first);
    float* panel = panels_.data() + first * in;
    for (std::int64_t i = 0; i < in; ++i, panel += kPanelWidth) {
      const float* values = columns + i * row + first;
      if (precision == Precision::bfloat16) {
        kernels().round_bfloat16(values, count, panel);
      } else {
        std::copy_n(values, count, panel);
      }
    }
  }
}

void PackedLinear::multiply(const float* const* x, std::int64_t n, float* const* y, bool pad,
                            const PackedLinear* after) const {
  const void* const next = after != nullptr ? after->panels() : nullptr;
  const PackedKernels& run = kernels();
  if (precision_ == Precision::float32) {
    run.multiply({panels_.data(), bias_.data(), in_, out_, gelu_, pad, next}, x, n, y);
    return;
  }
  static thread_local Scratch scratch;
  grow(scratch.rounded_rows, n);
  grow(scratch.quantised_rows, n);
  if (precision_ == Precision::bfloat16) {
    grow(scratch.rounded, n * in_);
    for (std::int64_t i = 0; i < n; ++i) {
      float* row = scratch.rounded.data() + i * in_;
      run.round_bfloat16(x[i], in_, row);
      scratch.rounded_rows[static_cast<std::size_t>(i)] = row;
    }
    run.multiply({panels_.data(), bias_.data(), in_, out_, gelu_, pad, next}, scratch.rounded_rows.data(), n, y);
    return;
  }
  const std::int64_t pairs = (in_ + 1) / 2;
  grow(scratch.quantised, n * 2 * pairs);
  grow(scratch.step, n);
  run.quantise(x, n, in_, scratch.quantised.data(), 2 * pairs, scratch.step.data());
  for (std::int64_t i = 0; i < n; ++i) {
    scratch.quantised_rows[static_cast<std::size_t>(i)] = scratch.quantised.data() + i * 2 * pairs;
  }
  run.multiply16({panels16_.data(), step_.data(), bias_.data(), pairs, out_, gelu_, pad, next},
                 scratch.quantised_rows.data(), scratch.step.data(), n, y);
}

void PackedLinear::forward(const float* x, std::int64_t x_row, std::int64_t n, float* y, std::int64_t y_row) const {
  const RowBlocks blocks(n, kMostRows);
  split(blocks.count(), [&](std::int64_t block) {
    const float* in[kMostRows];
    float* out[kMostRows];
    const std::int64_t begin = blocks.begin(block), count = blocks.size(block);
    for (std::int64_t i = 0; i < count; ++i) {
      in[i] = x + (begin + i) * x_row;
      out[i] = y + (begin + i) * y_row;
    }
    multiply(in, count, out, /*pad=*/false);
  });
}

at::Tensor PackedLinear::forward(const at::Tensor& x) const {
  const at::Tensor input = x.contiguous();
  at::Tensor y = at::empty(shape_with(x, out_), x.options());
  forward(input.const_data_ptr<float>(), in_, in_ > 0 ? input.numel() / in_ : 0, y.data_ptr<float>(), out_);
  return y;
}

}  // namespace moextract::model
