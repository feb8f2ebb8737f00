// What packed_kernel.h does with single rows, over a vector type (see packed_kernel_loops.h): quantising, layer norm,
// exponentials. Sums go through sixteen partial sums whatever the vector's width.
//
// Beyond packed_kernel_loops.h, Vec needs abs(a), add_to_exponent(a, n) = a 2^n for n given as the bits of
// n + 1.5 2^23, and store16(q), values rounded to nearest even, as 16-bit integers.
#pragma once

#include "model/packed_kernel_loops.h"

namespace moextract::model {
namespace {

/// Sixteen values side by side.
template <typename Vec>
struct Lanes {
  static constexpr int kVectors = kPanelWidth / Vec::kWidth;
  Vec v[kVectors];

  static Lanes all(float value) {
    Lanes lanes;
    for (Vec& vec : lanes.v) vec = Vec::all(value);
    return lanes;
  }
  static Lanes load(const float* from) {
    Lanes lanes;
    for (int i = 0; i < kVectors; ++i) lanes.v[i] = Vec::load(from + i * Vec::kWidth);
    return lanes;
  }
  void store(float* to) const {
    for (int i = 0; i < kVectors; ++i) v[i].store(to + i * Vec::kWidth);
  }
  /// Halves are added until one value is left; in that order on every instruction set.
  float sum() const {
    float s[kPanelWidth];
    store(s);
    const Eight eight = part<Eight>(s, 0) + part<Eight>(s, 8);
    const Four four = part<Four>(&eight, 0) + part<Four>(&eight, 4);
    return (four[0] + four[2]) + (four[1] + four[3]);
  }
  float largest() const {
    float s[kPanelWidth];
    store(s);
    const Eight a = part<Eight>(s, 0), b = part<Eight>(s, 8), eight = a > b ? a : b;
    const Four c = part<Four>(&eight, 0), d = part<Four>(&eight, 4), four = c > d ? c : d;
    const float even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
    return even > odd ? even : odd;
  }

 private:
  // The compiler's own vectors: what they become depends on the file's instruction set.
  using Eight = float __attribute__((vector_size(32)));
  using Four = float __attribute__((vector_size(16)));
  template <typename Part>
  static inline __attribute__((always_inline)) Part part(const void* from, int at) {
    Part values;
    __builtin_memcpy(&values, static_cast<const float*>(from) + at, sizeof(values));
    return values;
  }
};

/// Calls work(lanes, offset, count) for every sixteen values; the last are filled up with `fill`.
template <typename Vec, typename Work>
inline __attribute__((always_inline)) void for_lanes(const float* x, std::int64_t n, float fill, const Work& work) {
  std::int64_t i = 0;
  for (; i + kPanelWidth <= n; i += kPanelWidth) work(Lanes<Vec>::load(x + i), i, std::int64_t{kPanelWidth});
  if (i < n) {
    float last[kPanelWidth];
    for (std::int64_t j = 0; j < kPanelWidth; ++j) last[j] = i + j < n ? x[i + j] : fill;
    work(Lanes<Vec>::load(last), i, n - i);
  }
}

template <typename Vec>
inline __attribute__((always_inline)) void store_first(const Lanes<Vec>& lanes, std::int64_t count, float* to) {
  if (count == kPanelWidth) {
    lanes.store(to);
    return;
  }
  float last[kPanelWidth];
  lanes.store(last);
  for (std::int64_t j = 0; j < count; ++j) to[j] = last[j];
}

/// Of a row: what a value is multiplied with, and the step.
struct Quantum {
  float inverse = 0.0f, step = 0.0f;
};

inline Quantum quantum_of(float most, float square, std::int64_t n) {
  if (!(square < 3e38f)) {  // not a number, infinite or beyond squaring: the product must not look like a result
    return {0.0f, __builtin_nanf("")};
  }
  if (!(most > 1e-18f)) return {};  // squares below vanish: such a row counts as zero
  // Rounding moves the norm by at most half the root of n; a ten-thousandth is left for the rounding of the sums.
  const float norm = 46340.0f * 0.9999f - 0.5f * __builtin_sqrtf(static_cast<float>(n));
  const float by_largest = 32767.0f / most, by_norm = norm / __builtin_sqrtf(square);
  const float inverse = by_norm < by_largest ? by_norm : by_largest;
  return {inverse, 1.0f / inverse};
}

/// R rows at a time: a row alone waits for its own sums.
template <typename Vec, int R>
inline __attribute__((always_inline)) void quantise_together(const float* const* x, std::int64_t n, std::int16_t* q,
                                                             std::int64_t q_row, float* step) {
  using All = Lanes<Vec>;
  const std::int64_t whole = n / kPanelWidth * kPanelWidth;
  All largest[R], squares[R];
  for (int r = 0; r < R; ++r) largest[r] = squares[r] = All::all(0.0f);
  const auto take = [&](int r, const float* from) {
    const All lanes = All::load(from);
    for (int v = 0; v < All::kVectors; ++v) {
      largest[r].v[v] = Vec::max(largest[r].v[v], Vec::abs(lanes.v[v]));
      squares[r].v[v] = Vec::fma(lanes.v[v], lanes.v[v], squares[r].v[v]);
    }
  };
  const auto put = [](const float* from, Vec factor, std::int16_t* to) {
    const All lanes = All::load(from);
    for (int v = 0; v < All::kVectors; ++v) Vec::mul(lanes.v[v], factor).store16(to + v * Vec::kWidth);
  };
  for (std::int64_t i = 0; i < whole; i += kPanelWidth) {
    for (int r = 0; r < R; ++r) take(r, x[r] + i);
  }
  float last[R][kPanelWidth] = {};
  if (whole < n) {
    for (int r = 0; r < R; ++r) {
      __builtin_memcpy(last[r], x[r] + whole, static_cast<std::size_t>(n - whole) * sizeof(float));
      take(r, last[r]);
    }
  }
  Vec factor[R];
  for (int r = 0; r < R; ++r) {
    const Quantum quantum = quantum_of(largest[r].largest(), squares[r].sum(), n);
    factor[r] = Vec::all(quantum.inverse);
    step[r] = quantum.step;
  }
  for (std::int64_t i = 0; i < whole; i += kPanelWidth) {
    for (int r = 0; r < R; ++r) put(x[r] + i, factor[r], q + r * q_row + i);
  }
  if (whole < n) {
    for (int r = 0; r < R; ++r) {
      std::int16_t rest[kPanelWidth];
      put(last[r], factor[r], rest);
      for (std::int64_t j = 0; j < (n - whole) + (n - whole) % 2; ++j) q[r * q_row + whole + j] = rest[j];
    }
  }
}

template <typename Vec>
void quantise(const float* const* x, std::int64_t rows, std::int64_t n, std::int16_t* q, std::int64_t q_row,
              float* step) {
  constexpr int kTogether = Vec::kWidth >= 16 ? 4 : 2;
  std::int64_t i = 0;
  for (; i + kTogether <= rows; i += kTogether) {
    quantise_together<Vec, kTogether>(x + i, n, q + i * q_row, q_row, step + i);
  }
  for (; i < rows; ++i) quantise_together<Vec, 1>(x + i, n, q + i * q_row, q_row, step + i);
}

template <typename Vec>
void round_bfloat16(const float* x, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    // What is not a number stays so.
    bits = (bits & 0x7fffffffu) > 0x7f800000u ? (bits | 0x00400000u) & 0xffff0000u : rounded;
    __builtin_memcpy(y + i, &bits, sizeof(bits));
  }
}

template <typename Vec>
void layer_norm(const float* x, const float* weight, const float* bias, std::int64_t n, float eps, float* y) {
  using All = Lanes<Vec>;
  All sum = All::all(0.0f), squares = All::all(0.0f);
  for_lanes<Vec>(x, n, 0.0f, [&](const All& lanes, std::int64_t, std::int64_t) {
    for (int v = 0; v < All::kVectors; ++v) sum.v[v] = Vec::add(sum.v[v], lanes.v[v]);
  });
  const float count = static_cast<float>(n), mean = sum.sum() / count;
  const Vec centre = Vec::all(mean);
  for_lanes<Vec>(x, n, mean, [&](const All& lanes, std::int64_t, std::int64_t) {
    for (int v = 0; v < All::kVectors; ++v) {
      const Vec d = Vec::sub(lanes.v[v], centre);
      squares.v[v] = Vec::fma(d, d, squares.v[v]);
    }
  });
  const Vec scale = Vec::all(1.0f / __builtin_sqrtf(squares.sum() / count + eps));
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec d = Vec::mul(Vec::sub(Vec::load(x + i), centre), scale);
    Vec::fma(d, Vec::load(weight + i), Vec::load(bias + i)).store(y + i);
  }
  const float factor = 1.0f / __builtin_sqrtf(squares.sum() / count + eps);
  for (; i < n; ++i) y[i] = __builtin_fmaf((x[i] - mean) * factor, weight[i], bias[i]);
}

/// e^x for x <= 0: 2^n p(r), r = x - n ln 2 within half of ln 2; p the Taylor polynomial's minimax neighbour of degree
/// 6 (relative error 2e-8 before rounding).
template <typename Vec>
inline __attribute__((always_inline)) Vec exp_of(Vec x) {
  const Vec magic = Vec::all(12582912.0f);
  const Vec z = Vec::max(x, Vec::all(-87.0f));
  const Vec shifted = Vec::fma(z, Vec::all(1.44269504f), magic);
  const Vec n = Vec::sub(shifted, magic);
  const Vec r = Vec::fma(n, Vec::all(1.42860677e-6f), Vec::fma(n, Vec::all(-0.693148613f), z));
  Vec p = Vec::all(1.0f / 720);
  p = Vec::fma(p, r, Vec::all(1.0f / 120));
  p = Vec::fma(p, r, Vec::all(1.0f / 24));
  p = Vec::fma(p, r, Vec::all(1.0f / 6));
  p = Vec::fma(p, r, Vec::all(0.5f));
  p = Vec::fma(p, r, Vec::all(1.0f));
  p = Vec::fma(p, r, Vec::all(1.0f));
  return Vec::add_to_exponent(p, shifted);
}

template <typename Vec>
float exponentials(float* x, std::int64_t n, float scale) {
  using All = Lanes<Vec>;
  All largest = All::all(-__builtin_huge_valf());
  for_lanes<Vec>(x, n, -__builtin_huge_valf(), [&](const All& lanes, std::int64_t, std::int64_t) {
    for (int v = 0; v < All::kVectors; ++v) largest.v[v] = Vec::max(largest.v[v], lanes.v[v]);
  });
  const Vec centre = Vec::all(largest.largest()), factor = Vec::all(scale);
  All sum = All::all(0.0f);
  for_lanes<Vec>(x, n, 0.0f, [&](const All& lanes, std::int64_t at, std::int64_t count) {
    All e;
    for (int v = 0; v < All::kVectors; ++v) e.v[v] = exp_of(Vec::mul(Vec::sub(lanes.v[v], centre), factor));
    if (count < kPanelWidth) {
      float last[kPanelWidth];
      e.store(last);
      for (std::int64_t j = count; j < kPanelWidth; ++j) last[j] = 0.0f;
      e = All::load(last);
    }
    store_first(e, count, x + at);
    for (int v = 0; v < All::kVectors; ++v) sum.v[v] = Vec::add(sum.v[v], e.v[v]);
  });
  return sum.sum();
}

template <typename Vec, int R, int P, int R16, int P16>
constexpr PackedKernels kernels_of() {
  return {&multiply<Vec, R, P>, &multiply16<Vec, R16, P16>, &quantise<Vec>,
          &round_bfloat16<Vec>, &layer_norm<Vec>,           &exponentials<Vec>};
}

}  // namespace
}  // namespace moextract::model
