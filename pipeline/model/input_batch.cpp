#include "model/input_batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace moextract::model {

BatchLoader::BatchLoader(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
                         std::int64_t count, BadImages bad_images, std::int64_t stride)
    : set_(set),
      preprocess_(preprocess),
      first_(first),
      stride_(stride),
      bad_images_(bad_images),
      bytes_(static_cast<std::size_t>(count)),
      messages_(static_cast<std::size_t>(count)) {}

void BatchLoader::allocate() {
  images_ = at::empty({count(), preprocess_.channels, preprocess_.crop, preprocess_.crop}, at::kFloat);
}

std::span<float> BatchLoader::place(std::int64_t i) {
  const auto values = static_cast<std::size_t>(preprocess_.channels) * preprocess_.crop * preprocess_.crop;
  return {images_.data_ptr<float>() + static_cast<std::size_t>(i) * values, values};
}

void BatchLoader::read(std::int64_t i) {
  bytes_[static_cast<std::size_t>(i)] = set_.read(first_ + i * stride_);
}

void BatchLoader::decode(std::int64_t i) {
  std::call_once(allocated_, [this] { allocate(); });
  const std::vector<std::byte> bytes = std::move(bytes_[static_cast<std::size_t>(i)]);
  try {
    data::preprocess(set_.decode(first_ + i * stride_, bytes), preprocess_, place(i));
  } catch (const data::ImageError& error) {
    if (bad_images_ == BadImages::stop) {
      fail(ExitCode::input,
           "{}. Remove the picture, or set data.on_bad_image: skip to leave such pictures out and count them",
           error.what());
    }
    messages_[static_cast<std::size_t>(i)] = error.what();
  }
}

InputBatch BatchLoader::finish() {
  InputBatch batch;
  std::call_once(allocated_, [this] { allocate(); });  // a batch of none
  for (std::int64_t i = 0; i < count(); ++i) {
    std::string& message = messages_[static_cast<std::size_t>(i)];
    if (!message.empty()) {
      batch.skipped.push_back(std::move(message));
      batch.skipped_index.push_back(first_ + i * stride_);
      continue;
    }
    const auto row = static_cast<std::int64_t>(batch.index.size());
    if (row != i) std::ranges::copy(place(i), place(row).begin());
    batch.index.push_back(first_ + i * stride_);
  }
  batch.images = images_.narrow(0, 0, static_cast<std::int64_t>(batch.index.size()));
  return batch;
}

InputBatch load_batch(const data::ImageSet& set, const data::PreprocessParams& preprocess, std::int64_t first,
                      std::int64_t count, BadImages bad_images, std::int64_t stride) {
  BatchLoader loader(set, preprocess, first, count, bad_images, stride);
  for (std::int64_t i = 0; i < count; ++i) loader.read(i), loader.decode(i);
  return loader.finish();
}

void check_skipped(const std::vector<std::string>& skipped, std::int64_t skipped_total, std::int64_t total,
                   double share, const std::filesystem::path& list) {
  if (static_cast<double>(skipped_total) <= share * static_cast<double>(total)) return;
  fail(ExitCode::input,
       "{} of {} pictures could not be decoded, more than data.max_bad_share allows ({}). The first: {}{}",
       skipped_total, total, share, skipped.empty() ? std::string("see the warnings above") : skipped.front(),
       list.empty() ? "" : "; all are named in " + list.string());
}

}  // namespace moextract::model
