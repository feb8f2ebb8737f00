// A decoded picture, always 8-bit RGB, as Pillow's convert("RGB") would give it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace moextract::data {

struct Image {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  ///< [height, width, 3]
};

/// A picture that cannot be decoded: truncated, empty, foreign. Carries the member's name in its message. Whether it
/// ends the run is the caller's policy.
class ImageError : public UserError {
 public:
  explicit ImageError(const std::string& message) : UserError(ExitCode::input, message) {}
};

/// Decodes JPEG or PNG, told apart by their first bytes; greyscale, palette, alpha, 16-bit and CMYK/YCCK JPEG as Pillow
/// does. A truncated file is an error, as in Pillow. `name` only serves the message. Throws ImageError.
Image decode_image(std::span<const std::byte> bytes, std::string_view name);

}  // namespace moextract::data
