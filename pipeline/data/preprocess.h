// From a decoded picture to the model's input.
#pragma once

#include <array>
#include <span>

#include "data/image.h"
#include "data/resize.h"

namespace moextract::data {

enum class ResizeMode {
  shorter,  ///< shorter side to `resize`, the other side int(resize * long / short), as torchvision and timm do
  squash    ///< both sides to `resize`
};

struct PreprocessParams {
  int resize = 0;  ///< pixels; 0: no resize
  ResizeMode resize_mode = ResizeMode::shorter;
  Interpolation interpolation = Interpolation::bicubic;
  int crop = 224;                             ///< side of the centre crop = the model's input; torchvision's rounding
  int channels = 3;                           ///< 3, or 1: luminance of the crop as Pillow's convert("L")
  std::array<double, 3> mean{0.5, 0.5, 0.5};  ///< of values in 0..1, per channel
  std::array<double, 3> std{0.5, 0.5, 0.5};
};

/// The model's input before normalisation: resized and cropped, [crop, crop, 3], 8 bits. Throws ImageError for a
/// picture too slim to be resized.
Image resize_and_crop(const Image& image, const PreprocessParams& params);

/// Writes [channels, crop, crop] float32: ((value / 255) - mean) / std, computed in float32 in this order, as
/// torchvision does. A picture smaller than the crop after resizing is padded with zeros (black) as torchvision's
/// CenterCrop pads. `out` has channels * crop * crop elements.
void preprocess(const Image& image, const PreprocessParams& params, std::span<float> out);

/// Training augmentation, applied between crop and normalisation, drawn from `seed` alone.
struct AugmentParams {
  bool flip = true;    ///< mirror left-right with probability one half
  int shift = 0;       ///< translate by up to this many pixels each way, black fill
  double erase = 0.0;  ///< probability of one black rectangle of 2 % to 20 % of the area (random erasing)
};
void preprocess_augmented(const Image& image, const PreprocessParams& params, const AugmentParams& augment,
                          std::uint64_t seed, std::span<float> out);

}  // namespace moextract::data
