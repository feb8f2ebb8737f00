// Pictures as a model wants them: decoded, resized, cropped, normalised, stacked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "data/preprocess.h"

namespace moextract::model {

enum class BadImages {
  stop,  ///< a picture that cannot be decoded ends the run
  skip   ///< it is left out, counted and named
};

struct InputBatch {
  at::Tensor images;                 ///< [n, channels, crop, crop] float32; n = index.size()
  std::vector<std::int64_t> index;   ///< of each picture in its set
  std::vector<std::string> skipped;  ///< one message for each picture left out
};

/// Pictures first .. first+count-1 of the set. Called by many threads at once.
InputBatch load_batch(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
                      std::int64_t count, BadImages bad_images);

/// Throws UserError (input) if more than `share` of `total` pictures were skipped. Names the first of them.
void check_skipped(const std::vector<std::string>& skipped, std::int64_t skipped_total, std::int64_t total,
                   double share);

}  // namespace moextract::model
