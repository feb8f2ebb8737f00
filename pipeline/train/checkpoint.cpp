#include "train/checkpoint.h"

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace moextract::train {
namespace {

constexpr const char* kStateKey = "moextract.checkpoint";
constexpr std::string_view kWeight = "weight/", kFirst = "first/", kSecond = "second/";

void put(model::TensorMap& to, std::string_view prefix, const model::TensorMap& from) {
  for (const auto& [name, tensor] : from) to.emplace(std::string(prefix) + name, tensor);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  model::TensorMap tensors;
  put(tensors, kWeight, checkpoint.tensors);
  put(tensors, kFirst, checkpoint.first_moments);
  put(tensors, kSecond, checkpoint.second_moments);
  nlohmann::json history = nlohmann::json::array();
  for (const TrainingRecord& r : checkpoint.history)
    history.push_back({r.step, r.loss, r.learning_rate, r.gradient_norm});
  const nlohmann::json state{{"key", checkpoint.key},
                             {"step", checkpoint.step},
                             {"skipped_images", checkpoint.skipped_images},
                             {"history", std::move(history)}};
  model::save_weights(path, tensors, {{kStateKey, state.dump()}});
}

std::optional<Checkpoint> load_checkpoint(const std::filesystem::path& path, const std::string& key) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  model::WeightsFile file;
  Checkpoint checkpoint;
  try {
    file = model::load_weights(path);
    const nlohmann::json state = nlohmann::json::parse(file.metadata.at(kStateKey));
    checkpoint.key = state.at("key");
    checkpoint.step = state.at("step");
    checkpoint.skipped_images = state.at("skipped_images");
    for (const nlohmann::json& r : state.at("history")) {
      checkpoint.history.push_back({r.at(0), r.at(1), r.at(2), r.at(3)});
    }
  } catch (const std::exception& error) {
    fail(ExitCode::input, "{}: is not a checkpoint of ours or is damaged ({}). Delete it to train from the start",
         path.string(), error.what());
  }
  if (checkpoint.key != key) {
    fail(ExitCode::conflict,
         "{}: is the checkpoint of another training run. Delete it to train from the start, or choose another "
         "folder",
         path.string());
  }
  for (auto& [name, tensor] : file.tensors) {
    if (name.starts_with(kWeight)) checkpoint.tensors.emplace(name.substr(kWeight.size()), tensor);
    if (name.starts_with(kFirst)) checkpoint.first_moments.emplace(name.substr(kFirst.size()), tensor);
    if (name.starts_with(kSecond)) checkpoint.second_moments.emplace(name.substr(kSecond.size()), tensor);
  }
  return checkpoint;
}

}  // namespace moextract::train
