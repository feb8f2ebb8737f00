// Products of packed_kernel.h over a vector type; each packed_kernel_<set>.cpp instantiates them with its own and is
// compiled for it. Includes nothing that has inline functions of its own: those would be shared between differently
// compiled files.
//
// Vec: kWidth; load(const float*), store(float*), all(float), from_int(Int), and by element fma(a, b, c) = a b + c,
// add, sub, mul, div, min, max. Int, as many 32-bit integers: zero(), load and store (bits of floats), and
// dot(sum, pair, w) = sum + pair.low w.low + pair.high w.high for 16-bit pairs; pairs come by load16 and all_pairs.
#pragma once

#include <cstdint>

#include "model/packed_kernel.h"

namespace moextract::model {
namespace {

/// Bytes of a panel's input, or pair of inputs.
constexpr std::int64_t kLine = 64;

/// Memory that is asked for a little at a time, while something else is computed: at once it would fill the processor's
/// queue of misses, and that would wait.
struct Ahead {
  const char* at;
  std::int64_t step;  ///< bytes a turn of the loop
  inline __attribute__((always_inline)) void ask() {
    __builtin_prefetch(at, /*rw=*/0, /*locality=*/2);
    at += step;
  }
};

/// Inputs (or pairs) of a panel that stay in the first-level cache while all rows pass: 24 KB of weights.
constexpr std::int64_t kChunk = 384;

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

/// Finished values of a tile to the rows of y.
template <typename Vec, typename Product, int R, int P>
inline __attribute__((always_inline)) void write(const Product& product, std::int64_t first,
                                                 Vec (&sum)[R][kPanelWidth / Vec::kWidth * P], float* const* y) {
  constexpr int kVectors = kPanelWidth / Vec::kWidth * P;
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

/// Float32 products.
template <typename Vec>
struct FloatTile {
  using Product = PackedProduct;
  using Input = const float*;
  const Product& product;

  std::int64_t length() const { return product.in; }
  const void* panel(std::int64_t number) const { return product.panels + number * product.in * kPanelWidth; }
  /// The first panel meets rows for the first time: those after x[0 .. count), if they stand behind one another.
  void look_ahead(const Input* x, std::int64_t count, std::int64_t left, Ahead& ahead) const {
    const std::int64_t soon = left < count ? left : count;
    if (soon <= 0 || x[count + soon - 1] != x[count] + (soon - 1) * product.in) return;
    ahead = {reinterpret_cast<const char*>(x[count]), soon * static_cast<std::int64_t>(sizeof(float))};
  }
  /// R rows times P panels, from panel `first` on, inputs begin .. end. y holds the sums between chunks of inputs.
  template <int R, int P>
  inline __attribute__((always_inline)) void run(std::int64_t first, const Input* x, std::int64_t, float* const* y,
                                                 std::int64_t begin, std::int64_t end, Ahead ahead) const {
    constexpr int kPerPanel = kPanelWidth / Vec::kWidth, kVectors = kPerPanel * P;
    const std::int64_t in = product.in, column = first * kPanelWidth;
    const float* panel[P];
    for (int p = 0; p < P; ++p) panel[p] = product.panels + (first + p) * in * kPanelWidth;
    Vec sum[R][kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Vec bias = Vec::load(product.bias + column + v * Vec::kWidth);
      for (int r = 0; r < R; ++r) sum[r][v] = begin == 0 ? bias : Vec::load(y[r] + column + v * Vec::kWidth);
    }
    const float* row[R];
    for (int r = 0; r < R; ++r) row[r] = x[r];
    for (std::int64_t i = begin; i < end; ++i) {
      ahead.ask();
      Vec w[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        w[v] = Vec::load(panel[v / kPerPanel] + i * kPanelWidth + v % kPerPanel * Vec::kWidth);
      }
      for (int r = 0; r < R; ++r) {
        const Vec value = Vec::all(row[r][i]);
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec::fma(value, w[v], sum[r][v]);
      }
    }
    if (end < in) {
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v].store(y[r] + column + v * Vec::kWidth);
      }
      return;
    }
    write<Vec, Product, R, P>(product, first, sum, y);
  }
};

/// Products of 16-bit integers.
template <typename Vec>
struct IntegerTile {
  using Product = PackedProduct16;
  using Input = const std::int16_t*;
  const Product& product;
  const float* x_step;

  std::int64_t length() const { return product.pairs; }
  const void* panel(std::int64_t number) const { return product.panels + number * product.pairs * kPanelWidth * 2; }
  void look_ahead(const Input*, std::int64_t, std::int64_t, Ahead&) const {}  // they have just been quantised
  template <int R, int P>
  inline __attribute__((always_inline)) void run(std::int64_t first, const Input* x, std::int64_t at, float* const* y,
                                                 std::int64_t begin, std::int64_t end, Ahead ahead) const {
    using Int = typename Vec::Int;
    constexpr int kPerPanel = kPanelWidth / Vec::kWidth, kVectors = kPerPanel * P;
    const std::int64_t pairs = product.pairs, column = first * kPanelWidth;
    const std::int16_t* panel[P];
    for (int p = 0; p < P; ++p) panel[p] = product.panels + (first + p) * pairs * kPanelWidth * 2;
    Int sum[R][kVectors];
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = begin == 0 ? Int::zero() : Int::load(y[r] + column + v * Vec::kWidth);
      }
    }
    const std::int16_t* row[R];
    for (int r = 0; r < R; ++r) row[r] = x[r];
    for (std::int64_t i = begin; i < end; ++i) {
      ahead.ask();
      Int w[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        w[v] = Int::load16(panel[v / kPerPanel] + (i * kPanelWidth + v % kPerPanel * Vec::kWidth) * 2);
      }
      for (int r = 0; r < R; ++r) {
        const Int pair = Int::all_pairs(row[r] + 2 * i);
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Int::dot(sum[r][v], pair, w[v]);
      }
    }
    if (end < pairs) {
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v].store(y[r] + column + v * Vec::kWidth);
      }
      return;
    }
    Vec value[R][kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Vec step = Vec::load(product.step + column + v * Vec::kWidth),
                bias = Vec::load(product.bias + column + v * Vec::kWidth);
      for (int r = 0; r < R; ++r) {
        value[r][v] = Vec::fma(Vec::from_int(sum[r][v]), Vec::mul(Vec::all(x_step[at + r]), step), bias);
      }
    }
    write<Vec, Product, R, P>(product, first, value, y);
  }
};

/// `count` <= R rows from row `at` on.
template <int R, int P, typename Tile>
inline __attribute__((always_inline)) void rows_of(const Tile& tile, std::int64_t first, const typename Tile::Input* x,
                                                   std::int64_t at, std::int64_t count, float* const* y,
                                                   std::int64_t begin, std::int64_t end, Ahead ahead) {
  if (count == R) {
    tile.template run<R, P>(first, x + at, at, y + at, begin, end, ahead);
  } else if constexpr (R > 1) {
    rows_of<R - 1, P>(tile, first, x, at, count, y, begin, end, ahead);
  }
}

/// All rows times P panels: as few groups of at most R rows as can be, of equal size within one row.
template <int R, int P, typename Tile>
void panels(const Tile& tile, std::int64_t first, const typename Tile::Input* x, std::int64_t n, float* const* y) {
  const std::int64_t groups = (n + R - 1) / R, least = n / groups, larger = n % groups, length = tile.length();
  // Sums between chunks stand in y, which must have room for whole panels.
  const bool room = tile.product.pad || (first + P) * kPanelWidth <= tile.product.out;
  const std::int64_t chunk = room && length > kChunk + kChunk / 4 ? kChunk : length;
  // What is multiplied with next: the following panels, or what comes after the last.
  const std::int64_t left = (tile.product.out + kPanelWidth - 1) / kPanelWidth - (first + P);
  const void* const next = left > 0 ? tile.panel(first + P) : tile.product.after;
  const std::int64_t asked = next == nullptr ? 0 : length * (left > 0 && left < P ? left : P);
  std::int64_t begin = 0;
  do {
    const std::int64_t end = length - begin <= chunk + chunk / 4 ? length : begin + chunk;
    for (std::int64_t g = 0, at = 0; g < groups; ++g) {
      const std::int64_t count = least + (g < larger ? 1 : 0);
      // Where rows are few, weights come from afar: each group asks for its share of the next ones.
      Ahead ahead{static_cast<const char*>(asked > 0 ? next : tile.panel(first)), 0};
      if (asked > 0) {
        const std::int64_t turns = end - begin, from = asked * (begin * groups + turns * g) / (length * groups),
                           to = asked * (begin * groups + turns * (g + 1)) / (length * groups);
        ahead = {ahead.at + from * kLine, (to - from) * kLine / turns};
      }
      if (first == 0 && begin == 0) tile.look_ahead(x + at, count, n - at - count, ahead);
      rows_of<R, P>(tile, first, x, at, count, y, begin, end, ahead);
      at += count;
    }
    begin = end;
  } while (begin < length);
}

template <int R, int P, typename Tile>
void all_panels(const Tile& tile, std::int64_t first, const typename Tile::Input* x, std::int64_t n, float* const* y) {
  const std::int64_t count = (tile.product.out + kPanelWidth - 1) / kPanelWidth;
  for (; first + P <= count; first += P) panels<R, P>(tile, first, x, n, y);
  if constexpr (P > 1) {
    if (first < count) all_panels<R, P / 2>(tile, first, x, n, y);
  }
}

/// R rows and P panels at a time fill the registers; for one row or two, more panels keep as many sums in flight.
template <int R, int P, typename Tile>
inline __attribute__((always_inline)) void product(const Tile& tile, const typename Tile::Input* x, std::int64_t n,
                                                   float* const* y) {
  if (n <= 0) return;
  if (n == 1) {
    all_panels<1, 4>(tile, 0, x, n, y);
  } else if (n == 2) {
    all_panels<2, 2>(tile, 0, x, n, y);
  } else {
    all_panels<R, P>(tile, 0, x, n, y);
  }
}

template <typename Vec, int R, int P>
void multiply(const PackedProduct& packed, const float* const* x, std::int64_t n, float* const* y) {
  product<R, P>(FloatTile<Vec>{packed}, x, n, y);
}

template <typename Vec, int R, int P>
void multiply16(const PackedProduct16& packed, const std::int16_t* const* x, const float* x_step, std::int64_t n,
                float* const* y) {
  product<R, P>(IntegerTile<Vec>{packed, x_step}, x, n, y);
}

}  // namespace
}  // namespace moextract::model
