// Pillow's antialiased resize, byte for byte: separable convolution with the filter widened by the scale, coefficients
// in fixed point (22 bits), 8-bit rounding between the horizontal and the vertical pass.
#pragma once

#include "data/image.h"

namespace moextract::data {

enum class Interpolation { bilinear, bicubic };

/// Byte-equal to PIL.Image.resize((width, height), BILINEAR or BICUBIC) of an RGB image as of Pillow 12 (and 11):
/// always horizontally first. Pillow 13 turns the passes round when the height shrinks much more than the width, which
/// changes last bits; the models at hand were trained with the old order. width, height >= 1.
Image resize(const Image& image, int width, int height, Interpolation interpolation);

}  // namespace moextract::data
