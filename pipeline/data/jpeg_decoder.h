// JPEG to RGB by libjpeg-turbo with the settings that Pillow uses.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "data/image.h"

namespace moextract::data {

/// Greyscale, colour and CMYK/YCCK, baseline and progressive, 8 bits. Throws ImageError; a missing end is an error.
Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name);

}  // namespace moextract::data
