#include "data/survey.h"

#include <algorithm>
#include <unordered_map>

#include "core/hash.h"

namespace moextract::data {

ImageSurvey survey_images(const ImageSet& set, Workers& workers, const std::function<void(std::int64_t)>& progress) {
  struct Found {
    std::string hash;  ///< empty: broken
    std::string message;
  };
  std::vector<Found> found(static_cast<std::size_t>(set.size()));
  workers.for_each(set.size(), [&](std::int64_t i, int) {
    Found& here = found[static_cast<std::size_t>(i)];
    try {
      const Image image = set.load(i);
      Hasher hasher;
      hasher.add(fmt::format("{} {} ", image.width, image.height)).add(std::as_bytes(std::span(image.rgb)));
      here.hash = hasher.hex();
    } catch (const ImageError& error) {
      here.message = error.what();
    }
    if (progress) progress(1);
  });
  ImageSurvey survey;
  survey.images = set.size();
  std::unordered_map<std::string, std::vector<std::int64_t>> same;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    Found& here = found[static_cast<std::size_t>(i)];
    if (here.hash.empty()) {
      survey.broken.push_back(std::move(here.message));
    } else {
      same[here.hash].push_back(i);
    }
  }
  for (auto& [hash, group] : same) {
    if (group.size() > 1) survey.doubles.push_back(std::move(group));
  }
  std::sort(survey.doubles.begin(), survey.doubles.end());
  return survey;
}

bool labels_differ(const ImageSet& set, const std::vector<std::int64_t>& group) {
  return std::any_of(group.begin(), group.end(),
                     [&](std::int64_t i) { return set.label(i) != set.label(group.front()); });
}

}  // namespace moextract::data
