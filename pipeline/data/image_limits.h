// The largest picture that is decoded: a header of a few bytes must not be able to ask for all memory.
#pragma once

#include <cstdint>
#include <string_view>

#include "data/image.h"

namespace moextract::data {

inline constexpr std::int64_t kMaxImageSide = 1 << 14;
inline constexpr std::int64_t kMaxImagePixels = 200'000'000;

/// Throws ImageError if a picture of this size is refused. `name` only serves the message.
void check_image_size(std::int64_t width, std::int64_t height, std::string_view name);

}  // namespace moextract::data
