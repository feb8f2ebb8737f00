// Pictures as a model wants them: decoded, resized, cropped, normalised, stacked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
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
  at::Tensor images;                        ///< [n, channels, crop, crop] float32; n = index.size()
  std::vector<std::int64_t> index;          ///< of each picture in its set
  std::vector<std::string> skipped;         ///< one message for each picture left out
  std::vector<std::int64_t> skipped_index;  ///< of each of these in its set
};

/// Fills a batch picture by picture: `count` pictures of a set from `first` on, every `stride`-th.
class BatchLoader {
 public:
  BatchLoader(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
              std::int64_t count, BadImages bad_images, std::int64_t stride = 1);
  std::int64_t count() const { return static_cast<std::int64_t>(messages_.size()); }
  /// Reads the bytes of the i-th picture of the batch; different ones from several threads at once. Throws UserError
  /// (input) if the file cannot be read, whatever the policy: that says nothing of the picture.
  void read(std::int64_t i);
  /// Decodes what was read of the i-th picture and lets go of it; different ones from several threads at once. Throws
  /// UserError (input) if it cannot be decoded and the policy is to stop.
  void decode(std::int64_t i);
  /// After all are loaded. Those left out leave no gaps.
  InputBatch finish();

 private:
  void allocate();
  std::span<float> place(std::int64_t i);

  const data::ImageSet& set_;
  const data::PreprocessParams& preprocess_;
  std::int64_t first_, stride_;
  BadImages bad_images_;
  std::once_flag allocated_;
  at::Tensor images_;  ///< made when the first picture is decoded: bytes that were read ahead are much smaller
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::string> messages_;  ///< why a picture was left out; empty: it was not
};

/// `count` pictures of the set from `first` on, every `stride`-th. Called by many threads at once.
InputBatch load_batch(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
                      std::int64_t count, BadImages bad_images, std::int64_t stride = 1);

/// Throws UserError (input) if more than `share` of `total` pictures were skipped. Names the first of them, and the
/// file (if any) that names all.
void check_skipped(const std::vector<std::string>& skipped, std::int64_t skipped_total, std::int64_t total,
                   double share, const std::filesystem::path& list = {});

}  // namespace moextract::model
