// The inner loops of inference on a CPU: products x W^T + b, with a GELU where wanted, for rows that stand anywhere in
// memory, and what is done with single rows.
//
// All of them give the same bits on every instruction set, whatever the number of rows and the row's neighbours: a
// float32 output is one chain of fused multiply-adds over the inputs in ascending order, begun at the bias; a 16-bit
// product sums integers without rounding; sums along a row go through sixteen partial sums, joined in a fixed order.
#pragma once

#include <cstdint>

namespace moextract::model {

/// Outputs side by side in a panel.
inline constexpr int kPanelWidth = 16;

struct PackedProduct {
  const float* panels;  ///< [ceil(out / kPanelWidth), in, kPanelWidth], padded with zeros
  const float* bias;    ///< [ceil(out / kPanelWidth) * kPanelWidth]
  std::int64_t in, out;
  bool gelu;  ///< y = gelu(x W^T + b), the exact GELU within 4e-7
  bool pad;   ///< outputs are written up to the panel's end (rows of y have room); otherwise up to `out`
  const void* after = nullptr;  ///< weights of the next product, to be asked for before they are needed; or null
};

/// Rows and weights as 16-bit integers times a step of the row and a step of the output.
struct PackedProduct16 {
  const std::int16_t* panels;   ///< [ceil(out / kPanelWidth), pairs, kPanelWidth, 2], padded with zeros
  const float* step;            ///< [ceil(out / kPanelWidth) * kPanelWidth], of each output's weights
  const float* bias;            ///< as above
  std::int64_t pairs, out;      ///< pairs of inputs
  bool gelu, pad;               ///< as above
  const void* after = nullptr;  ///< as above
};

struct PackedKernels {
  /// y[i][0 .. out) from x[i][0 .. in) for i < n.
  void (*multiply)(const PackedProduct& product, const float* const* x, std::int64_t n, float* const* y);
  /// The same from quantised rows x[i][0 .. 2 pairs) of step x_step[i]: y = (sum of integers) (x_step step) + bias.
  void (*multiply16)(const PackedProduct16& product, const std::int16_t* const* x, const float* x_step, std::int64_t n,
                     float* const* y);
  /// q[i][0 .. n rounded up to even) = x[i] / step[i], rounded to nearest, for i < rows; q[i] begins at q + i q_row.
  /// The step is the least that keeps |q| within 16 bits and the norm of q within sqrt(2^31): by Cauchy and Schwarz no
  /// sum of products of two such rows leaves 32 bits. A row of zeros has step 0; one with a value that is not finite
  /// has a step that is not a number.
  void (*quantise)(const float* const* x, std::int64_t rows, std::int64_t n, std::int16_t* q, std::int64_t q_row,
                   float* step);
  /// The same of the columns of x [rows, columns], rows `x_row` apart: q is laid out as PackedProduct16's panels, of
  /// `columns` outputs and `rows` inputs, step [columns]. The same bits as of rows.
  void (*quantise_columns)(const float* x, std::int64_t x_row, std::int64_t rows, std::int64_t columns, std::int16_t* q,
                           float* step);
  /// y = the nearest bfloat16s, as float32; ties to even.
  void (*round_bfloat16)(const float* x, std::int64_t n, float* y);
  /// y = (x - mean) / sqrt(variance + eps) weight + bias over n values; y may be x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, std::int64_t n, float eps, float* y);
  /// x = exp(scale (x - max x)), within 1e-6 of it, relatively; returns their sum. scale > 0.
  float (*exponentials)(float* x, std::int64_t n, float scale);
};

extern const PackedKernels kPortableKernels;
#if defined(__x86_64__)
extern const PackedKernels kAvx2Kernels;        ///< needs AVX2 and FMA
extern const PackedKernels kAvx512Kernels;      ///< needs AVX-512F and AVX-512BW
extern const PackedKernels kAvx512VnniKernels;  ///< AVX-512VNNI too
#endif

}  // namespace moextract::model
