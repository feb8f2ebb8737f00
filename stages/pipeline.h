// The stages of a configuration as a graph: who reads what, what determines each artefact.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "moe/control_routing.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"
#include "stages/cluster/cluster_plan.h"
#include "stages/input_cache.h"
#include "stages/moments/moments_plan.h"
#include "stages/run_config.h"

namespace moextract::stages {

/// Names of stages on the command line.
inline const std::vector<std::string> kStageNames{"train",    "collect",  "cluster", "moments",
                                                  "assemble", "finetune", "evaluate"};

/// One model that is evaluated.
struct VariantNode {
  std::string name;   ///< "dense", "vbp", "vbp-finetuned", "experts", "experts-finetuned", "experts-random" and other
                      ///< controls
  std::string model;  ///< id of the node that makes it; empty: the dense model's file
  std::string evaluation;  ///< id of its evaluation
  std::string method;      ///< "dense", "vbp", "moee", "fitted"
  bool finetuned = false;
  moe::Routing routing = moe::Routing::learnt;
};

class Pipeline {
 public:
  /// Opens image sets and reads the weights file's header and hash. Throws UserError (config, input) for what is
  /// missing or does not fit together: everything a user can get wrong is found before any work. Not collective.
  /// `cache` (optional) spares opening inputs again that an earlier pipeline had; it need not outlive this one.
  explicit Pipeline(const RunConfig& config, InputCache* cache = nullptr);

  const RunConfig& config() const { return config_; }
  /// What models are computed on: run.device, where it is automatic as this process finds it.
  DeviceKind device() const { return device_; }
  const run::StageGraph& graph() const { return graph_; }
  const model::ModelDescription& description() const { return description_; }
  const std::vector<VariantNode>& variants() const { return variants_; }
  /// Image set by its section's name ("calibration", "train", "validation"), or null if the configuration has none.
  const data::ImageSet* images(const std::string& name) const;
  /// Ids of the nodes that a command-line stage name stands for; "run": all. Throws UserError (config) if the
  /// configuration has no such stage.
  std::vector<std::string> nodes_of(const std::string& stage) const;
  /// Settings that affect results and identities of inputs: what a run's folder is compared by.
  nlohmann::json identity() const { return identity_; }
  /// The settings in identity() when nothing is configured.
  static nlohmann::json default_identity();
  /// What the moments stage takes at this scale; nothing if there is no such stage.
  std::optional<MomentsPlan> moments_plan(const MomentsScale& scale) const;
  /// Rows of a layer that collect records of so many images.
  std::int64_t recorded_rows(std::int64_t images) const;
  /// What cluster takes of a rank's memory for so many rows of a layer.
  ClusterPlan cluster_plan(std::int64_t rows, std::int64_t ranks, std::int64_t threads) const;
  /// What the stages that write much will write, by node.
  const std::map<std::string, double>& bytes_written() const { return bytes_written_; }

 private:
  /// Of forward passes of collect and evaluate.
  model::Precision precision() const { return resolve(config_.model.precision, device_); }
  /// Settings of a stage whose bytes depend on the kind of device: with it, unless it is the CPU.
  nlohmann::json with_device(nlohmann::json settings) const;
  void open_images(const std::string& name, const data::ImageSetParams& params, InputCache& cache);
  void add_train();
  void add_collect();
  void add_cluster();
  void add_moments();
  void add_assemble();
  /// With the products settled.
  MomentsParams moments_params() const;
  /// Clusters of a layer as far as the configuration says: HDBSCAN leaves it to the data.
  std::int64_t planned_clusters() const;
  /// What the sequential fit costs, for the plan; empty without.
  std::string sequential_text() const;
  void add_finetune(const std::string& variant);
  void add_evaluate(const VariantNode& variant);
  /// Node whose id is `id`; settings: the section of the field list that affects results.
  void add_node(const std::string& id, int version, nlohmann::json settings, std::map<std::string, std::string> inputs,
                std::vector<std::string> needs, std::string plan,
                std::function<nlohmann::json(run::Context&, const std::filesystem::path&)> work,
                std::function<void(const nlohmann::json&, const std::filesystem::path&)> accept = {});
  std::string key(const std::string& id) const { return graph_.node(id).spec.key(); }
  nlohmann::json section(const std::string& name) const { return settings_.value(name, nlohmann::json::object()); }
  /// The dense model: the weights file, or what the train stage made. Loaded once.
  const moe::LoadedModel& dense();
  moe::LoadedModel model_of(const std::string& node) const;
  /// Collective. The shards of collect; throws UserError (input) if one is of something else.
  std::vector<std::filesystem::path> shards(run::Context& context) const;
  /// Throws UserError (config) if collect does not record what a command-line stage reads.
  void need_taps(const std::string& stage) const;
  /// What the clustered tap needs of a block's MLP in the dense model, as ClusterInputs wants it.
  RowMap mlp_layer(std::int64_t layer);
  const data::ImageSet& need_images(const std::string& name, const std::string& stage) const;

  RunConfig config_;
  DeviceKind device_;
  nlohmann::json settings_, identity_;
  model::ModelDescription description_;
  AssemblyChoices choices_;  ///< settled; with calibration images only
  bool trains_ = false;
  std::string dense_identity_;  ///< hash of the weights file, or key of the train stage
  std::vector<std::string> dense_needs_;
  std::string centroids_identity_;  ///< hash of the file that k-means starts from; empty without
  std::map<std::string, std::shared_ptr<const data::ImageSet>> images_;
  std::unique_ptr<moe::LoadedModel> dense_;
  run::StageGraph graph_;
  std::vector<VariantNode> variants_;
  std::map<std::string, double> bytes_written_;
};

}  // namespace moextract::stages
