// The views of an image that statistics are taken of: as it is, mirrored, and shifted copies of both.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>

#include "stages/moments/moments.h"

namespace moextract::stages {

/// How many views of an image there are; number 0 is the image as it is.
std::int64_t view_count(const MomentsParams& params);

/// Names a view of the image `id`: what is drawn for it is drawn by this name. The id itself for view 0.
std::string view_name(const MomentsParams& params, const std::string& id, std::int64_t view);

/// Images [n, channels, height, width] as `view` shows them; `ids` [n] name the images. Shifts go up to half a patch
/// each way, so that patches fall between those of the image as it is; what comes in at an edge repeats the edge. They
/// depend on name and seed alone.
at::Tensor view_images(const MomentsParams& params, const at::Tensor& images, std::span<const std::string> ids,
                       std::int64_t view, std::int64_t patch);

}  // namespace moextract::stages
