// Image sets and weights files, opened and hashed once however many configurations name them.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "data/image_set.h"
#include "moe/model_file.h"

namespace moextract::stages {

class InputCache {
 public:
  /// As data::open_image_set.
  std::shared_ptr<const data::ImageSet> images(const data::ImageSetParams& params);
  struct Weights {
    std::string hash;                                    ///< of the file
    std::optional<model::ModelDescription> description;  ///< in the file's metadata
  };
  /// Throws UserError (input).
  const Weights& weights(const std::filesystem::path& file);

 private:
  std::deque<std::pair<std::string, std::shared_ptr<const data::ImageSet>>> images_;  // the oldest first
  std::map<std::filesystem::path, Weights> weights_;
};

}  // namespace moextract::stages
