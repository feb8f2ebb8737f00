// Looks at every picture of a set: what cannot be decoded, what is there twice, what has two labels.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/workers.h"
#include "data/image_set.h"

namespace moextract::data {

struct ImageSurvey {
  std::int64_t images = 0;
  std::vector<std::string> broken;  ///< one message for each picture that cannot be decoded: its name and why
  /// Indices of pictures with the same pixels, ascending, each group of at least two; in the order of their first.
  std::vector<std::vector<std::int64_t>> doubles;
};

/// Decodes every picture, on all threads of a team. Memory: 40 bytes a picture. Pictures are the same if size and all
/// pixels are (by a hash of 128 bits), whatever their files. `progress` is called by any thread with numbers of
/// pictures done.
ImageSurvey survey_images(const ImageSet& set, Workers& workers,
                          const std::function<void(std::int64_t)>& progress = {});

/// Whether the pictures of a group have different labels.
bool labels_differ(const ImageSet& set, const std::vector<std::int64_t>& group);

}  // namespace moextract::data
