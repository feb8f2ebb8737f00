// Loops of packed_kernel.h over a vector type; each packed_kernel_<set>.cpp instantiates them with its own and is
// compiled for it. Includes nothing that has inline functions of its own: those would be shared between differently
// compiled files.
//
// Vec: kWidth; load(const float*), store(float*), all(float), and fma(a, b, c) = a b + c, div, min, max, by element.
#pragma once

#include <cstdint>

#include "model/packed_kernel.h"

namespace moextract::model {
namespace {

/// erf(x) as x P(x^2) / Q(x^2) on [-4, 4] and constant beyond; absolute error 3.5e-7 in float32. The coefficients are a
/// weighted least-squares fit, iterated towards equal ripples (2.5e-8 before rounding).
template <typename Vec>
inline __attribute__((always_inline)) Vec gelu_of(Vec x) {
  const Vec limit = Vec::all(4.0f);
  const Vec z = Vec::max(Vec::min(Vec::mul(x, Vec::all(0.70710678f)), limit), Vec::all(-4.0f));
  const Vec t = Vec::mul(z, z);
  Vec p = Vec::all(1.986802544706734e-06f);
  p = Vec::fma(p, t, Vec::all(2.845617418643087e-04f));
  p = Vec::fma(p, t, Vec::all(3.8831857964396477e-03f));
  p = Vec::fma(p, t, Vec::all(5.310126021504402e-02f));
  p = Vec::fma(p, t, Vec::all(1.9354146718978882e-01f));
  p = Vec::fma(p, t, Vec::all(1.1283791065216064f));
  Vec q = Vec::all(3.7420166336232796e-05f);
  q = Vec::fma(q, t, Vec::all(1.1855316115543246e-03f));
  q = Vec::fma(q, t, Vec::all(1.5206935815513134e-02f));
  q = Vec::fma(q, t, Vec::all(1.1534850299358368e-01f));
  q = Vec::fma(q, t, Vec::all(5.048542022705078e-01f));
  q = Vec::fma(q, t, Vec::all(1.0f));
  const Vec erf = Vec::max(Vec::min(Vec::div(Vec::mul(z, p), q), Vec::all(1.0f)), Vec::all(-1.0f));
  const Vec half = Vec::mul(x, Vec::all(0.5f));
  return Vec::fma(half, erf, half);
}

/// R rows times P panels, from panel `first` on.
template <typename Vec, int R, int P>
inline __attribute__((always_inline)) void tile(const PackedProduct& product, std::int64_t first, const float* const* x,
                                                float* const* y) {
  constexpr int kVectors = kPanelWidth / Vec::kWidth * P;
  constexpr int kPerPanel = kPanelWidth / Vec::kWidth;
  const std::int64_t in = product.in;
  const float* panel[P];
  for (int p = 0; p < P; ++p) panel[p] = product.panels + (first + p) * in * kPanelWidth;
  Vec sum[R][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const Vec bias = Vec::load(product.bias + first * kPanelWidth + v * Vec::kWidth);
    for (int r = 0; r < R; ++r) sum[r][v] = bias;
  }
  const float* row[R];
  for (int r = 0; r < R; ++r) row[r] = x[r];
  for (std::int64_t i = 0; i < in; ++i) {
    Vec w[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      w[v] = Vec::load(panel[v / kPerPanel] + i * kPanelWidth + v % kPerPanel * Vec::kWidth);
    }
    for (int r = 0; r < R; ++r) {
      const Vec value = Vec::all(row[r][i]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec::fma(value, w[v], sum[r][v]);
    }
  }
  if (product.gelu) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] = gelu_of(sum[r][v]);
    }
  }
  const std::int64_t begin = first * kPanelWidth, end = begin + P * kPanelWidth;
  if (product.pad || end <= product.out) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v].store(y[r] + begin + v * Vec::kWidth);
    }
    return;
  }
  for (int r = 0; r < R; ++r) {
    float last[P * kPanelWidth];
    for (int v = 0; v < kVectors; ++v) sum[r][v].store(last + v * Vec::kWidth);
    for (std::int64_t j = begin; j < product.out; ++j) y[r][j] = last[j - begin];
  }
}

template <typename Vec, int R, int P>
void remaining_rows(const PackedProduct& product, std::int64_t first, const float* const* x, std::int64_t n,
                    float* const* y) {
  if (n == R) {
    tile<Vec, R, P>(product, first, x, y);
  } else if constexpr (R > 1) {
    remaining_rows<Vec, R - 1, P>(product, first, x, n, y);
  }
}

template <typename Vec, int R, int P>
void panels(const PackedProduct& product, std::int64_t first, const float* const* x, std::int64_t n, float* const* y) {
  std::int64_t i = 0;
  for (; i + R <= n; i += R) tile<Vec, R, P>(product, first, x + i, y + i);
  if (i < n) remaining_rows<Vec, R - 1, P>(product, first, x + i, n - i, y + i);
}

/// R rows and P panels at a time fill the registers.
template <typename Vec, int R, int P>
void multiply(const PackedProduct& product, const float* const* x, std::int64_t n, float* const* y) {
  const std::int64_t count = (product.out + kPanelWidth - 1) / kPanelWidth;
  std::int64_t first = 0;
  for (; first + P <= count; first += P) panels<Vec, R, P>(product, first, x, n, y);
  if constexpr (P > 1) {
    for (; first < count; ++first) panels<Vec, R, 1>(product, first, x, n, y);
  }
}

}  // namespace
}  // namespace moextract::model
