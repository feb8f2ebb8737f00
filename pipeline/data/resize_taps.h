// Which input positions an output position of a resize is made of, and with what weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/resize.h"

namespace moextract::data {

/// Pillow's Resample.c: 8 bits of result and 2 for overshoot leave 22 bits of an int for the coefficient.
inline constexpr int kResizeBits = 32 - 8 - 2;

/// For each output position the first input position, how many, and their weights in fixed point.
struct ResizeTaps {
  std::vector<int> first, count;
  std::vector<std::int32_t> weights;  ///< [output positions, width]
  std::size_t width = 0;

  const std::int32_t* of(std::size_t position) const { return weights.data() + position * width; }
  /// One past the last input position of the last output position.
  int end() const { return first.back() + count.back(); }
};

/// Output positions begin .. begin + count - 1 of `out_size`. The order of operations is Pillow's: the last bit of a
/// double can turn the rounding of a weight.
ResizeTaps make_resize_taps(int in_size, int out_size, int begin, int count, Interpolation interpolation);

}  // namespace moextract::data
