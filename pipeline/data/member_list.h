// Which members of a set are taken, and in which order: list file, then shuffle, then first and count.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace moextract::data {

/// Positions in `ids` (all different). Throws UserError (input): a listed name that is not there (with file, line and
/// the nearest name) or stands twice, negative first or count, a selection that leaves nothing.
std::vector<std::int64_t> select_members(std::span<const std::string> ids, const ImageSetParams& params);

}  // namespace moextract::data
