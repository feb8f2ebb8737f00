// The configuration of a run: every section, with its defaults.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/description.h"
#include "model/input_batch.h"
#include "model/precision.h"
#include "stages/assemble/assemble.h"
#include "stages/cluster/cluster.h"
#include "stages/collect/collect.h"
#include "stages/device_choice.h"
#include "stages/evaluate/evaluate.h"
#include "stages/finetune/finetune.h"
#include "stages/moments/layer_router.h"
#include "stages/moments/moments.h"
#include "stages/train/train.h"

namespace moextract::stages {

struct RunParams {
  std::string name = "run";
  std::filesystem::path folder;                    ///< report and record of the run; empty: runs/<name>
  std::filesystem::path store = "runs/artefacts";  ///< artefacts of all runs
  int threads = 0;                                 ///< a rank; 0: cores / ranks of this node
  DeviceChoice device = DeviceChoice::automatic;   ///< that models are computed on
  std::int64_t deadline = 600;                     ///< seconds in one collective without anybody's progress; 0: none
  double time_limit = 0;                           ///< minutes; 0: none
  std::int64_t stop_before_end = 120;              ///< seconds before the limit, or Slurm's, in which to save and leave
};

/// model.precision; automatic is model::kFastPrecision, and bfloat16 on other devices than cpu.
enum class PrecisionChoice { automatic, float32, bfloat16, int16 };
/// Throws UserError (config) for int16 on other devices than cpu.
model::Precision resolve(PrecisionChoice choice, DeviceKind kind = DeviceKind::cpu);

/// A model by timm's name, by our own file's description, or by numbers; what is given here overrides.
struct ModelParams {
  std::string name;
  std::filesystem::path weights;  ///< safetensors; empty: the train stage makes them
  std::optional<std::int64_t> image_size, patch_size, channels, width, depth, heads, hidden, classes;
  std::optional<std::int64_t> resize;
  std::string resize_mode, interpolation;  ///< empty: the model's own
  std::vector<double> mean, std;           ///< of values in 0..1, one for each channel, or one for all
  bool qkv_bias = true, class_token = true;
  bool short_last_block = false;
  PrecisionChoice precision = PrecisionChoice::automatic;  ///< of forward passes of collect and evaluate
  std::int64_t micro_batch = 8;
};

struct DataParams {
  data::ImageSetParams calibration, train, validation;
  model::BadImages on_bad_image = model::BadImages::stop;
  double max_bad_share = 0.01;
};

struct BaselineParams {
  bool enabled = true;
  VbpParams vbp;
};

struct RunConfig {
  RunParams run;
  ModelParams model;
  DataParams data;
  TrainParams train;
  CollectParams collect;
  ClusterParams cluster;
  moe::RouterParams router;
  MomentsParams moments;
  AssembleParams assemble;
  BaselineParams baseline;
  FinetuneParams finetune;
  ControlParams controls;
  std::string report_title;
};

/// The one field list. `config` must outlive it.
config::FieldList field_list(RunConfig& config);

/// Reads FILE, then applies settings ("cluster.k=16") in order. Throws UserError (config).
void read_config(const std::filesystem::path& file, const std::vector<std::string>& settings, RunConfig& config);

/// The model that the configuration describes, on top of `own`, the description in the weights file. Throws UserError
/// (config).
model::ModelDescription describe_model(const ModelParams& params, const std::optional<model::ModelDescription>& own);

}  // namespace moextract::stages
