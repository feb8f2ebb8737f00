#include "data/resize.h"

#include <algorithm>
#include <cmath>

namespace moextract::data {
namespace {

// Pillow's Resample.c: 8 bits of result and 2 for overshoot leave 22 bits of an int for the coefficient.
constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr std::size_t kChannels = 3;
// The horizontal pass takes this many rows at a time, turned so that the rows lie beside each other.
constexpr std::size_t kBlockRows = 8;

double bilinear_weight(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic_weight(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// For each output position the first input position, how many, and their weights in fixed point.
struct Taps {
  std::vector<int> first, count;
  std::vector<std::int32_t> weights;  ///< [output size, width]
  std::size_t width = 0;

  const std::int32_t* of(int position) const { return weights.data() + static_cast<std::size_t>(position) * width; }
};

/// The order of operations is Pillow's: the last bit of a double can turn the rounding of a weight.
Taps make_taps(int in_size, int out_size, Interpolation interpolation) {
  const auto weight = interpolation == Interpolation::bilinear ? bilinear_weight : bicubic_weight;
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::bilinear ? 1.0 : 2.0) * filter_scale;
  Taps taps;
  taps.width = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(taps.width * static_cast<std::size_t>(out_size));
  std::vector<double> exact(taps.width);
  for (int position = 0; position < out_size; ++position) {
    const double center = (position + 0.5) * scale;
    const double inverse = 1.0 / filter_scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
    double sum = 0.0;
    for (int x = 0; x < count; ++x) {
      exact[static_cast<std::size_t>(x)] = weight((x + first - center + 0.5) * inverse);
      sum += exact[static_cast<std::size_t>(x)];
    }
    std::int32_t* fixed = taps.weights.data() + static_cast<std::size_t>(position) * taps.width;
    for (int x = 0; x < count; ++x) {
      double w = exact[static_cast<std::size_t>(x)];
      if (sum != 0.0) w /= sum;
      fixed[x] = static_cast<std::int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kPrecisionBits));
    }
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);

/// Rows `first_row` .. `first_row + rows - 1` of the input, each to `width` pixels.
Image resize_width(const Image& in, int first_row, int rows, int width, Interpolation interpolation) {
  const Taps taps = make_taps(in.width, width, interpolation);
  Image out{width, rows, std::vector<std::uint8_t>(static_cast<std::size_t>(width) * rows * kChannels)};
  constexpr std::size_t kLanes = kChannels * kBlockRows;
  const std::size_t in_row = static_cast<std::size_t>(in.width) * kChannels;
  const std::size_t out_row = static_cast<std::size_t>(width) * kChannels;
  std::vector<std::uint8_t> turned(static_cast<std::size_t>(in.width) * kLanes);  // [x, channel, row of the block]
  for (std::size_t top = 0; top < static_cast<std::size_t>(rows); top += kBlockRows) {
    const std::size_t block = std::min(kBlockRows, static_cast<std::size_t>(rows) - top);
    const std::uint8_t* source = in.rgb.data() + (static_cast<std::size_t>(first_row) + top) * in_row;
    for (std::size_t r = 0; r < block; ++r) {
      for (std::size_t i = 0; i < in_row; ++i) turned[i * kBlockRows + r] = source[r * in_row + i];
    }
    std::uint8_t* target = out.rgb.data() + top * out_row;
    for (int x = 0; x < width; ++x) {
      std::int32_t sums[kLanes];
      std::fill(std::begin(sums), std::end(sums), kHalf);
      const std::int32_t* weights = taps.of(x);
      const auto column = static_cast<std::size_t>(x);
      const std::uint8_t* values = turned.data() + static_cast<std::size_t>(taps.first[column]) * kLanes;
      for (int t = 0; t < taps.count[column]; ++t, values += kLanes) {
        const std::int32_t w = weights[t];
        for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += w * values[lane];
      }
      for (std::size_t r = 0; r < block; ++r) {
        for (std::size_t c = 0; c < kChannels; ++c) {
          target[r * out_row + column * kChannels + c] = rounded(sums[c * kBlockRows + r]);
        }
      }
    }
  }
  return out;
}

/// `taps` refer to rows of the original picture, of which `in` begins at `first_row`.
Image resize_height(const Image& in, int first_row, const Taps& taps, int height) {
  Image out{in.width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(in.width) * height * kChannels)};
  const std::size_t row = static_cast<std::size_t>(in.width) * kChannels;
  std::vector<std::int32_t> sums(row);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const std::int32_t* weights = taps.of(y);
    const auto line = static_cast<std::size_t>(y);
    for (int t = 0; t < taps.count[line]; ++t) {
      const std::int32_t w = weights[t];
      const std::uint8_t* values = in.rgb.data() + static_cast<std::size_t>(taps.first[line] + t - first_row) * row;
      for (std::size_t i = 0; i < row; ++i) sums[i] += w * values[i];
    }
    std::uint8_t* target = out.rgb.data() + line * row;
    for (std::size_t i = 0; i < row; ++i) target[i] = rounded(sums[i]);
  }
  return out;
}

}  // namespace

Image resize(const Image& image, int width, int height, Interpolation interpolation) {
  MOEX_ASSERT(width >= 1 && height >= 1, "resize to nothing");
  MOEX_ASSERT(
      image.rgb.size() == static_cast<std::size_t>(image.width) * image.height * kChannels && !image.rgb.empty(),
      "picture and its size disagree");
  if (height == image.height) {
    return width == image.width ? image : resize_width(image, 0, image.height, width, interpolation);
  }
  const Taps vertical = make_taps(image.height, height, interpolation);
  if (width == image.width) return resize_height(image, 0, vertical, height);
  const int first_row = vertical.first.front();
  const int rows = vertical.first.back() + vertical.count.back() - first_row;
  return resize_height(resize_width(image, first_row, rows, width, interpolation), first_row, vertical, height);
}

}  // namespace moextract::data
