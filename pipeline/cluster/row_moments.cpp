#include "cluster/row_moments.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <span>

#include "cluster/distances.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

constexpr std::int64_t kTile = 64;
constexpr std::int64_t kRowsAtOnce = 1024;  // their products' sums are below 2^53: exact in double in any order
constexpr int kMostBits = 20;
constexpr std::int64_t kNoValue = -4096;  // exponent of a column of zeros

/// Rows, prepared, a few at a time.
void for_each_part(const RowSource& source, std::int64_t d, bool unit_length,
                   const std::function<void(std::span<const float> rows, std::int64_t count)>& visit) {
  std::vector<float> values;
  source.for_each_block([&](const RowBlock& block) {
    for (std::int64_t first = 0; first < block.count; first += kRowsAtOnce) {
      const std::int64_t count = std::min(kRowsAtOnce, block.count - first);
      values.resize(static_cast<std::size_t>(count * d));
      prepare_rows(block.rows.subspan(static_cast<std::size_t>(first * d), values.size()), d, unit_length, values);
      visit(values, count);
    }
  });
}

/// Adds the products of two tiles of columns, summed over rows.
void add_products(std::span<const double> rows, std::int64_t count, std::int64_t d, std::int64_t top, std::int64_t left,
                  std::int64_t* sums) {
  const std::int64_t height = std::min(kTile, d - top), width = std::min(kTile, d - left);
  std::vector<double> tile(static_cast<std::size_t>(kTile * kTile), 0.0);
  constexpr std::int64_t kStep = 32;
  double b[kStep * kTile];
  for (std::int64_t first = 0; first < count; first += kStep) {
    const std::int64_t n = std::min(kStep, count - first);
    for (std::int64_t i = 0; i < n; ++i) {
      const double* row = rows.data() + (first + i) * d + left;
      for (std::int64_t y = 0; y < kTile; ++y) b[i * kTile + y] = y < width ? row[y] : 0.0;
    }
    for (std::int64_t x = 0; x < height; ++x) {
      double* sum = tile.data() + x * kTile;
      for (std::int64_t i = 0; i < n; ++i) {
        const double value = rows[static_cast<std::size_t>((first + i) * d + top + x)];
        for (std::int64_t y = 0; y < kTile; ++y) sum[y] += value * b[i * kTile + y];
      }
    }
  }
  for (std::int64_t x = 0; x < height; ++x) {
    for (std::int64_t y = 0; y < width; ++y)
      sums[(top + x) * d + left + y] += static_cast<std::int64_t>(tile[static_cast<std::size_t>(x * kTile + y)]);
  }
}

}  // namespace

RowMoments stream_row_moments(const RowSource& source, std::int64_t dimension, bool unit_length,
                              comm::Communicator& comm, Workers& workers) {
  const std::int64_t d = dimension;
  const auto width = static_cast<std::size_t>(d);
  RowMoments moments;
  moments.dimension = d;
  moments.rows = comm.all_reduce_value(source.local_rows(), comm::Reduction::sum);

  std::vector<std::int64_t> exponent(width, kNoValue);  // |values| of a column < 2^exponent
  comm.together([&] {
    std::vector<float> largest(width, 0.0F);
    for_each_part(source, d, unit_length, [&](std::span<const float> rows, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::size_t k = 0; k < width; ++k)
          largest[k] = std::max(largest[k], std::abs(rows[static_cast<std::size_t>(i) * width + k]));
      }
    });
    for (std::size_t k = 0; k < width; ++k) {
      int e = 0;
      if (largest[k] > 0) std::frexp(largest[k], &e), exponent[k] = e;
    }
  });
  comm.all_reduce(std::span(exponent), comm::Reduction::max);

  // |q| <= 2^bits, so that sums of products stay within 62 bits.
  const int row_bits = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(moments.rows, 1)));
  const int bits = std::clamp((62 - row_bits) / 2, 1, kMostBits);
  std::vector<double> up(width, 0.0), step(width, 0.0);
  for (std::size_t k = 0; k < width; ++k) {
    if (exponent[k] == kNoValue) continue;
    up[k] = std::ldexp(1.0, bits - static_cast<int>(exponent[k]));
    step[k] = std::ldexp(1.0, static_cast<int>(exponent[k]) - bits);
  }
  std::vector<std::int64_t> products(width * width, 0), sums(width, 0);
  comm.together([&] {
    const std::int64_t tiles = (d + kTile - 1) / kTile, pairs = tiles * (tiles + 1) / 2;
    std::vector<double> whole;
    for_each_part(source, d, unit_length, [&](std::span<const float> rows, std::int64_t count) {
      whole.resize(rows.size());
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::size_t k = 0; k < width; ++k) {
          const std::size_t at = static_cast<std::size_t>(i) * width + k;
          whole[at] = std::nearbyint(static_cast<double>(rows[at]) * up[k]);
          sums[k] += static_cast<std::int64_t>(whole[at]);
        }
      }
      workers.for_each(pairs, [&](std::int64_t pair, int) {  // lower triangle; each entry belongs to one pair
        std::int64_t top = 0;
        while (pair > top) pair -= ++top;
        add_products(whole, count, d, top * kTile, pair * kTile, products.data());
      });
    });
  });
  comm.all_reduce(std::span(products), comm::Reduction::sum);
  comm.all_reduce(std::span(sums), comm::Reduction::sum);

  moments.mean.resize(width);
  moments.covariance.assign(width * width, 0.0);
  const double n = static_cast<double>(std::max<std::int64_t>(moments.rows, 1)),
               divisor = std::max<double>(static_cast<double>(moments.rows - 1), 1.0);
  for (std::size_t i = 0; i < width; ++i) {
    moments.mean[i] = step[i] * (static_cast<double>(sums[i]) / n);
    for (std::size_t j = 0; j <= i; ++j) {
      // n sum(q q') - sum(q) sum(q') exactly: nothing cancels that rounding has touched.
      const __int128 exact =
          static_cast<__int128>(moments.rows) * products[i * width + j] - static_cast<__int128>(sums[i]) * sums[j];
      const double value = static_cast<double>(exact) / n / divisor * step[i] * step[j] + 0.0;
      moments.covariance[i * width + j] = moments.covariance[j * width + i] = value;
    }
  }
  return moments;
}

}  // namespace moextract::cluster
