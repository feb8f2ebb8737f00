// Where in the image an expert's tokens lie, as a small map.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace moextract {

/// `tokens` [grid * grid], row by row: cells in five shades of the largest count, none for zero. `description` is read
/// aloud in place of the picture.
std::string draw_position_map(std::span<const std::int64_t> tokens, std::int64_t grid, const std::string& description);

}  // namespace moextract
