// The inner loops of packed products: x W^T + b, with a GELU where wanted, for rows that stand anywhere in memory.
//
// Each output is one chain of fused multiply-adds over the inputs in ascending order, begun at the bias, on every
// instruction set: the same bits whatever the processor, the number of rows or the row's neighbours.
#pragma once

#include <cstdint>

namespace moextract::model {

/// Outputs side by side in a panel; weights lie as [panel, input, kPanelWidth], padded with zeros.
inline constexpr int kPanelWidth = 16;

struct PackedProduct {
  const float* panels;  ///< [ceil(out / kPanelWidth), in, kPanelWidth]
  const float* bias;    ///< [ceil(out / kPanelWidth) * kPanelWidth]
  std::int64_t in, out;
  bool gelu;  ///< y = gelu(x W^T + b), the exact GELU within 4e-7
  bool pad;   ///< outputs are written up to the panel's end (rows of y have room); otherwise up to `out`
};

/// y[i][0 .. out) from x[i][0 .. in) for i < n.
using PackedKernel = void (*)(const PackedProduct& product, const float* const* x, std::int64_t n, float* const* y);

extern const PackedKernel kPackedPortable;
#if defined(__x86_64__)
extern const PackedKernel kPackedAvx2;    ///< needs AVX2 and FMA
extern const PackedKernel kPackedAvx512;  ///< needs AVX-512F
#endif

}  // namespace moextract::model
