// Pillow's antialiased resize, byte for byte: separable convolution with the filter widened by the scale, coefficients
// in fixed point (22 bits), 8-bit rounding between the horizontal and the vertical pass.
#pragma once

#include "data/image.h"

namespace moextract::data {

enum class Interpolation { bilinear, bicubic };

/// A rectangle of a picture, in pixels.
struct Region {
  int left = 0, top = 0, width = 0, height = 0;
};

/// Byte-equal to PIL.Image.resize((width, height), BILINEAR or BICUBIC) of an RGB image as of Pillow 12 (and 11):
/// always horizontally first. Pillow 13 turns the passes round when the height shrinks much more than the width, which
/// changes last bits; the models at hand were trained with the old order. width, height >= 1.
Image resize(const Image& image, int width, int height, Interpolation interpolation);

/// The part `region` of resize(image, width, height, interpolation); only what it needs is computed. `region` is not
/// empty and lies in [0, width) x [0, height).
Image resize_region(const Image& image, int width, int height, const Region& region, Interpolation interpolation);

}  // namespace moextract::data
