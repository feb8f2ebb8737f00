// Stage evaluate: exact top-1 and top-5, MACs, parameters, token shares, and measured speed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/control_routing.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kEvaluateVersion = 6;

/// Which controls are evaluated beside the experts as they are.
struct ControlParams {
  bool random = false, oracle = false, best = false;
  std::uint64_t seed = 1;  ///< of random routing
};
void describe(config::Section section, ControlParams& params);

struct EvaluateInputs {
  const moe::LoadedModel& model;
  const data::ImageSet& images;
  std::int64_t micro_batch = 8;
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
  model::Precision precision = model::Precision::float32;
  std::int64_t precision_sample = 0;            ///< images on which `precision` is compared with float32 first
  moe::Routing routing = moe::Routing::learnt;  ///< of layers with experts
  const moe::LoadedModel* dense = nullptr;      ///< routing oracle and best
  std::filesystem::path clusters;               ///< folder of the cluster stage; routing oracle
  std::uint64_t seed = 1;                       ///< routing random
};

inline constexpr const char* kEvaluationFile =
    "evaluation.json";  ///< counts: the same on any number of ranks and threads
/// For each image, so that models can be compared image by image: "predicted" [N] int32, the class with the largest
/// logit
/// (-1: left out), and "label_rank" [N] int32, how many classes stand before the label.
inline constexpr const char* kPredictionsFile = "predictions.safetensors";
/// Where the tokens went, for each layer with experts: "layer.<l>.by_class" [k, classes] and "layer.<l>.by_position"
/// [k, tokens], int64 counts; absent without experts.
inline constexpr const char* kRoutingFile = "routing.safetensors";
inline constexpr const char* kTimingFile = "timing.json";  ///< measured here and now

/// Collective. Images are dealt over the ranks by micro-batches; a rank may get none. The number of images that were
/// counted is asserted to be all of them. A picture is right (top-n) if fewer than n classes have a larger logit than
/// its label, equal logits counting for the class with the lower index. Throws UserError (numerics) if a logit is not
/// finite.
nlohmann::json evaluate(const EvaluateInputs& inputs, run::Context& context, const std::filesystem::path& folder);

/// How two models' answers to the same images differ.
struct AnswerChanges {
  std::int64_t gained = 0;    ///< images that only the second gets right
  std::int64_t lost = 0;      ///< images that only the first gets right
  std::int64_t agreeing = 0;  ///< images to which both give the same class
};
/// Of two folders of this stage. Throws UserError (input) if they are not of the same number of images.
AnswerChanges compare_answers(const std::filesystem::path& first, const std::filesystem::path& second);

}  // namespace moextract::stages
