#include "data/preprocess.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "data/image_limits.h"

namespace moextract::data {
namespace {

// One stream a decision, so that switching one off leaves the others' draws as they were.
enum Purpose : std::uint64_t { kFlip = 0x666c6970, kShift = 0x73686966, kErase = 0x65726173 };

// Shape of the erased rectangle: its shorter side over its longer one, as in random erasing (Zhong et al. 2017).
constexpr double kEraseMinArea = 0.02, kEraseMaxArea = 0.2, kEraseMinRatio = 0.3;

/// First pixel of the centre crop: torchvision pads a picture that is too small first (the odd pixel right and below:
/// a negative offset), then crops at round((size - side) / 2), halves to even as Python rounds.
int crop_offset(int size, int side) {
  return size < side ? -((side - size) / 2) : static_cast<int>(std::nearbyint((size - side) / 2.0));
}

/// The centre [side, side, 3] of the picture resized to width x height; parts outside of it are black.
Image resized_center(const Image& image, int width, int height, Interpolation interpolation, int side) {
  const int left = crop_offset(width, side), top = crop_offset(height, side);
  const Region inside{std::max(0, left), std::max(0, top), std::min(side, width), std::min(side, height)};
  Image part = resize_region(image, width, height, inside, interpolation);
  if (part.width == side && part.height == side) return part;
  Image crop{side, side, std::vector<std::uint8_t>(static_cast<std::size_t>(side) * side * 3, 0)};
  const auto row = static_cast<std::ptrdiff_t>(part.width) * 3;
  for (int y = 0; y < part.height; ++y) {
    const std::size_t target =
        (static_cast<std::size_t>(y + std::max(0, -top)) * side + static_cast<std::size_t>(std::max(0, -left))) * 3;
    std::copy_n(part.rgb.begin() + y * row, row, crop.rgb.begin() + static_cast<std::ptrdiff_t>(target));
  }
  return crop;
}

void check(const PreprocessParams& params, std::span<float> out) {
  MOEX_ASSERT(params.channels == 1 || params.channels == 3, "channels must be 1 or 3");
  MOEX_ASSERT(out.size() == static_cast<std::size_t>(params.channels) * params.crop * params.crop,
              "output span of another size");
}

void normalise(const Image& crop, const PreprocessParams& params, std::span<float> out) {
  const std::size_t pixels = crop.rgb.size() / 3;
  std::array<std::array<float, 256>, 3> tables;
  for (std::size_t c = 0; c < static_cast<std::size_t>(params.channels); ++c) {
    const auto mean = static_cast<float>(params.mean[c]), std = static_cast<float>(params.std[c]);
    for (std::size_t value = 0; value < tables[c].size(); ++value) {
      tables[c][value] = (static_cast<float>(value) / 255.0f - mean) / std;
    }
  }
  const std::uint8_t* rgb = crop.rgb.data();
  float* first = out.data();
  if (params.channels == 3) {
    float *second = first + pixels, *third = second + pixels;
    for (std::size_t i = 0; i < pixels; ++i, rgb += 3) {
      first[i] = tables[0][rgb[0]];
      second[i] = tables[1][rgb[1]];
      third[i] = tables[2][rgb[2]];
    }
  } else {
    // Pillow's convert("L"): ITU-R 601-2 luma in 16-bit fixed point.
    for (std::size_t i = 0; i < pixels; ++i, rgb += 3) {
      first[i] = tables[0][(rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16];
    }
  }
}

void flip(Image& image) {
  const std::size_t row = static_cast<std::size_t>(image.width) * 3;
  for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y) {
    std::uint8_t* left = image.rgb.data() + y * row;
    std::uint8_t* right = left + row - 3;
    for (; left < right; left += 3, right -= 3) std::swap_ranges(left, left + 3, right);
  }
}

Image shifted(const Image& image, int dx, int dy) {
  Image out{image.width, image.height, std::vector<std::uint8_t>(image.rgb.size(), 0)};
  const int from = std::max(0, dx), to = std::min(image.width, image.width + dx);
  if (from >= to) return out;
  for (int y = std::max(0, dy); y < std::min(image.height, image.height + dy); ++y) {
    const std::size_t source = (static_cast<std::size_t>(y - dy) * image.width + (from - dx)) * 3;
    const std::size_t target = (static_cast<std::size_t>(y) * image.width + from) * 3;
    std::copy_n(&image.rgb[source], (to - from) * 3, &out.rgb[target]);
  }
  return out;
}

void erase(Image& image, RandomStream& stream) {
  const double area = kEraseMinArea + (kEraseMaxArea - kEraseMinArea) * stream.uniform();
  const double ratio = kEraseMinRatio + (1.0 - kEraseMinRatio) * stream.uniform();
  const bool tall = stream.below(2) == 1;
  const double pixels = area * image.width * image.height;
  const int longer = std::clamp(static_cast<int>(std::sqrt(pixels / ratio)), 1, image.width);
  const int shorter = std::clamp(static_cast<int>(pixels / longer), 1, image.width);
  const int width = tall ? shorter : longer, height = tall ? longer : shorter;
  const auto left = static_cast<std::size_t>(stream.below(static_cast<std::uint64_t>(image.width - width) + 1));
  const auto top = static_cast<std::size_t>(stream.below(static_cast<std::uint64_t>(image.height - height) + 1));
  for (std::size_t y = top; y < top + static_cast<std::size_t>(height); ++y) {
    std::fill_n(&image.rgb[(y * static_cast<std::size_t>(image.width) + left) * 3], width * 3, std::uint8_t{0});
  }
}

}  // namespace

Image resize_and_crop(const Image& image, const PreprocessParams& params) {
  MOEX_ASSERT(params.crop >= 1, "crop of nothing");
  int width = image.width, height = image.height;
  if (params.resize > 0) {
    width = height = params.resize;
    if (params.resize_mode == ResizeMode::shorter) {
      const auto longer = [&](int longer_side, int shorter_side) {
        const double exact = static_cast<double>(static_cast<std::int64_t>(params.resize) * longer_side) / shorter_side;
        if (exact * params.resize > static_cast<double>(kMaxImagePixels)) {
          throw ImageError(fmt::format("a picture of {} x {} pixels is too slim to be resized to a shorter side of {}",
                                       image.width, image.height, params.resize));
        }
        return static_cast<int>(exact);
      };
      if (image.width <= image.height) {
        height = longer(image.height, image.width);
      } else {
        width = longer(image.width, image.height);
      }
    }
  }
  return resized_center(image, width, height, params.interpolation, params.crop);
}

void preprocess(const Image& image, const PreprocessParams& params, std::span<float> out) {
  check(params, out);
  normalise(resize_and_crop(image, params), params, out);
}

void preprocess_augmented(const Image& image, const PreprocessParams& params, const AugmentParams& augment,
                          std::uint64_t seed, std::span<float> out) {
  check(params, out);
  MOEX_ASSERT(augment.shift >= 0, "negative shift");
  Image crop = resize_and_crop(image, params);
  if (augment.flip && RandomStream(seed, kFlip).below(2) == 1) flip(crop);
  if (augment.shift > 0) {
    RandomStream stream(seed, kShift);
    const auto range = static_cast<std::uint64_t>(augment.shift) * 2 + 1;
    const int dx = static_cast<int>(stream.below(range)) - augment.shift;
    const int dy = static_cast<int>(stream.below(range)) - augment.shift;
    crop = shifted(crop, dx, dy);
  }
  if (augment.erase > 0.0) {
    RandomStream stream(seed, kErase);
    if (stream.uniform() < augment.erase) erase(crop, stream);
  }
  normalise(crop, params, out);
}

}  // namespace moextract::data
