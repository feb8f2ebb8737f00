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

/// The last values of a row, filled up with zeros.
struct RowEnd {
  float values[kPanelWidth] = {};
  RowEnd(const float* row, std::int64_t whole, std::int64_t n) {
    __builtin_memcpy(values, row + whole, static_cast<std::size_t>(n - whole) * sizeof(float));
  }
};

/// Largest magnitudes and sums of squares of R rows by lane, to largest[r] and squares[r]: a row alone would wait for
/// its own sums. Rows of an expert stand apart, so that the processor cannot guess the next ones: `soon` are asked for.
template <typename Vec, int R>
inline __attribute__((always_inline)) void survey_rows(const float* const* x, const float* const* soon, std::int64_t n,
                                                       Lanes<Vec>* largest, Lanes<Vec>* squares) {
  using All = Lanes<Vec>;
  const std::int64_t whole = n / kPanelWidth * kPanelWidth;
  All most[R], square[R];
  for (int r = 0; r < R; ++r) most[r] = square[r] = All::all(0.0f);
  const auto take = [&](int r, const float* from) {
    const All lanes = All::load(from);
    for (int v = 0; v < All::kVectors; ++v) {
      most[r].v[v] = Vec::max(most[r].v[v], Vec::abs(lanes.v[v]));
      square[r].v[v] = Vec::fma(lanes.v[v], lanes.v[v], square[r].v[v]);
    }
  };
  for (std::int64_t i = 0; i < whole; i += kPanelWidth) {
    for (int r = 0; r < R; ++r) {
      __builtin_prefetch(soon[r] + i);
      take(r, x[r] + i);
    }
  }
  if (whole < n) {
    for (int r = 0; r < R; ++r) take(r, RowEnd(x[r], whole, n).values);
  }
  for (int r = 0; r < R; ++r) {
    largest[r] = most[r];
    squares[r] = square[r];
  }
}

/// x times `factor`, rounded; up to an even number of values.
template <typename Vec>
inline __attribute__((always_inline)) void round_row(const float* x, std::int64_t n, float factor, std::int16_t* q) {
  using All = Lanes<Vec>;
  const std::int64_t whole = n / kPanelWidth * kPanelWidth;
  const Vec by = Vec::all(factor);
  const auto put = [&](const float* from, std::int16_t* to) {
    const All lanes = All::load(from);
    for (int v = 0; v < All::kVectors; ++v) Vec::mul(lanes.v[v], by).store16(to + v * Vec::kWidth);
  };
  for (std::int64_t i = 0; i < whole; i += kPanelWidth) put(x + i, q + i);
  if (whole < n) {
    std::int16_t rest[kPanelWidth];
    put(RowEnd(x, whole, n).values, rest);
    for (std::int64_t j = 0; j < (n - whole) + (n - whole) % 2; ++j) q[whole + j] = rest[j];
  }
}

/// Eight rows at a time, in three loops: what one waits for at its end, another's arithmetic covers.
template <typename Vec>
void quantise(const float* const* x, std::int64_t rows, std::int64_t n, std::int16_t* q, std::int64_t q_row,
              float* step) {
  constexpr int kTogether = Vec::kWidth >= 16 ? 4 : 2, kGroup = 8;
  for (std::int64_t first = 0; first < rows; first += kGroup) {
    const int count = static_cast<int>(rows - first < kGroup ? rows - first : kGroup);
    Lanes<Vec> largest[kGroup], squares[kGroup];
    int r = 0;
    for (; r + kTogether <= count; r += kTogether) {
      const bool more = first + r + kGroup + kTogether <= rows;
      survey_rows<Vec, kTogether>(x + first + r, x + first + r + (more ? kGroup : 0), n, largest + r, squares + r);
    }
    for (; r < count; ++r) survey_rows<Vec, 1>(x + first + r, x + first + r, n, largest + r, squares + r);
    float factor[kGroup];
    for (r = 0; r < count; ++r) {
      const Quantum quantum = quantum_of(largest[r].largest(), squares[r].sum(), n);
      factor[r] = quantum.inverse;
      step[first + r] = quantum.step;
    }
    for (r = 0; r < count; ++r) round_row<Vec>(x[first + r], n, factor[r], q + (first + r) * q_row);
  }
}

/// Sixteen columns at a time, side by side in the vectors: the partial sums of each column are those of a row.
template <typename Vec>
void quantise_columns(const float* x, std::int64_t x_row, std::int64_t rows, std::int64_t columns, std::int16_t* q,
                      float* step) {
  using All = Lanes<Vec>;
  const std::int64_t pairs = (rows + 1) / 2;
  for (std::int64_t first = 0; first < columns; first += kPanelWidth, q += pairs * kPanelWidth * 2) {
    const std::int64_t count = columns - first < kPanelWidth ? columns - first : kPanelWidth;
    const auto load = [&](std::int64_t row) {
      const float* from = x + row * x_row + first;
      if (count == kPanelWidth) return All::load(from);
      float some[kPanelWidth] = {};
      __builtin_memcpy(some, from, static_cast<std::size_t>(count) * sizeof(float));
      return All::load(some);
    };
    All largest = All::all(0.0f), squares[kPanelWidth];
    for (All& partial : squares) partial = All::all(0.0f);
    for (std::int64_t row = 0; row < rows; ++row) {
      const All lanes = load(row);
      All& partial = squares[row % kPanelWidth];
      for (int v = 0; v < All::kVectors; ++v) {
        largest.v[v] = Vec::max(largest.v[v], Vec::abs(lanes.v[v]));
        partial.v[v] = Vec::fma(lanes.v[v], lanes.v[v], partial.v[v]);
      }
    }
    for (int half = kPanelWidth / 2; half > 0; half /= 2) {  // the order of Lanes::sum
      for (int p = 0; p < half; ++p) {
        for (int v = 0; v < All::kVectors; ++v) {
          squares[p].v[v] = Vec::add(squares[p].v[v], squares[p + half].v[v]);
        }
      }
    }
    float most[kPanelWidth], square[kPanelWidth], inverse[kPanelWidth] = {};
    largest.store(most);
    squares[0].store(square);
    for (std::int64_t c = 0; c < count; ++c) {
      const Quantum quantum = quantum_of(most[c], square[c], rows);
      inverse[c] = quantum.inverse;
      step[first + c] = quantum.step;
    }
    const All factor = All::load(inverse);
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      std::int16_t even[kPanelWidth], odd[kPanelWidth] = {};
      const auto put = [&](std::int64_t row, std::int16_t* to) {
        const All lanes = load(row);
        for (int v = 0; v < All::kVectors; ++v) Vec::mul(lanes.v[v], factor.v[v]).store16(to + v * Vec::kWidth);
      };
      put(2 * pair, even);
      if (2 * pair + 1 < rows) put(2 * pair + 1, odd);
      std::int16_t* panel = q + pair * kPanelWidth * 2;
      for (int c = 0; c < kPanelWidth; ++c) {
        panel[2 * c] = even[c];
        panel[2 * c + 1] = odd[c];
      }
    }
  }
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
  return {&multiply<Vec, R, P>, &multiply16<Vec, R16, P16>, &quantise<Vec>,    &quantise_columns<Vec>,
          &round_bfloat16<Vec>, &layer_norm<Vec>,           &exponentials<Vec>};
}

}  // namespace
}  // namespace moextract::model
