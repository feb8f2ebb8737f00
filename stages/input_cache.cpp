#include "stages/input_cache.h"

#include <fmt/format.h>

#include "core/hash.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace {

/// Sets can be large in memory, and a sweep may draw as many as it has runs.
constexpr std::size_t kMostSets = 16;

std::string key_of(const data::ImageSetParams& p) {
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", static_cast<int>(p.kind), p.source.string(),
                     p.labels.string(), p.classes.string(), p.list.string(), p.file_column, p.label_column,
                     p.root.string(), p.first, p.count, p.shuffle_seed);
}

}  // namespace

std::shared_ptr<const data::ImageSet> InputCache::images(const data::ImageSetParams& params) {
  const std::string key = key_of(params);
  for (const auto& [name, set] : images_) {
    if (name == key) return set;
  }
  if (images_.size() == kMostSets) images_.pop_front();
  return images_.emplace_back(key, data::open_image_set(params)).second;
}

const InputCache::Weights& InputCache::weights(const std::filesystem::path& file) {
  const auto found = weights_.find(file);
  if (found != weights_.end()) return found->second;
  Weights weights;
  weights.description = model::find_description(store::SafetensorsFile(file).metadata(), file.string());
  weights.hash = hash_file(file);
  return weights_.emplace(file, std::move(weights)).first->second;
}

}  // namespace moextract::stages
