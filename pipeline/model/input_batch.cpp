#include "model/input_batch.h"

#include <ATen/ops/empty.h>

#include "core/error.h"

namespace moextract::model {

InputBatch load_batch(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
                      std::int64_t count, BadImages bad_images) {
  InputBatch batch;
  const auto values = static_cast<std::int64_t>(preprocess.channels) * preprocess.crop * preprocess.crop;
  at::Tensor images = at::empty({count, preprocess.channels, preprocess.crop, preprocess.crop}, at::kFloat);
  float* data = images.data_ptr<float>();
  for (std::int64_t i = first; i < first + count; ++i) {
    try {
      const auto row = static_cast<std::int64_t>(batch.index.size());
      data::preprocess(set.load(i), preprocess,
                       std::span<float>(data + row * values, static_cast<std::size_t>(values)));
      batch.index.push_back(i);
    } catch (const data::ImageError& error) {
      if (bad_images == BadImages::stop) {
        fail(ExitCode::input,
             "{}. Remove the picture, or set data.on_bad_image: skip to leave such pictures out and count them",
             error.what());
      }
      batch.skipped.emplace_back(error.what());
    }
  }
  batch.images = images.narrow(0, 0, static_cast<std::int64_t>(batch.index.size()));
  return batch;
}

void check_skipped(const std::vector<std::string>& skipped, std::int64_t skipped_total, std::int64_t total,
                   double share) {
  if (static_cast<double>(skipped_total) <= share * static_cast<double>(total)) return;
  fail(ExitCode::input,
       "{} of {} pictures could not be decoded, more than data.max_bad_share allows ({}). The first: {}", skipped_total,
       total, share, skipped.empty() ? std::string("see the warnings above") : skipped.front());
}

}  // namespace moextract::model
