// PNG to RGB by libpng, with the conversions of Pillow's convert("RGB").
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "data/image.h"

namespace moextract::data {

/// All colour types, depths and interlacing. Alpha is dropped, not blended; a palette index beyond the palette is
/// black; 16-bit colour keeps its high byte, but 16-bit greyscale is CLIPPED to 255: so does Pillow. Throws ImageError.
Image decode_png(std::span<const std::byte> bytes, std::string_view name);

}  // namespace moextract::data
