#include "stages/pipeline.h"

#include <algorithm>

#include "config/render.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/workers.h"
#include "model/vit.h"
#include "run/progress.h"
#include "stages/assemble/sequential.h"
#include "stages/cluster/given_centroids.h"
#include "stages/collect/collect_plan.h"
#include "stages/evaluate/evaluate.h"
#include "stages/moments/image_views.h"
#include "stages/precision_check.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::string bytes_text(double bytes) {
  for (const char* unit : {"B", "KB", "MB", "GB"}) {
    if (bytes < 1000) return fmt::format("{:.3g} {}", bytes, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.3g} TB", bytes);
}

/// Settings that affect results, without paths: what a path leads to is identified by its content, not by its name.
json result_settings(RunConfig& config) {
  config::FieldList fields = field_list(config);
  for (config::Field& field : fields.fields()) {
    if (std::holds_alternative<fs::path*>(field.value)) field.affects_result = false;
  }
  return config::to_json(fields, /*only_results=*/true);
}

}  // namespace

Pipeline::Pipeline(const RunConfig& config, InputCache* cache)
    : config_(config), device_(kind_of(config.run.device)), graph_(config.run.store) {
  static_cast<void>(precision());  // throws where the device does not have it
  InputCache own_cache;
  InputCache& inputs = cache != nullptr ? *cache : own_cache;
  settings_ = result_settings(config_);
  open_images("calibration", config_.data.calibration, inputs);
  open_images("train", config_.data.train, inputs);
  open_images("validation", config_.data.validation, inputs);
  trains_ = config_.model.weights.empty();
  std::optional<model::ModelDescription> own;
  if (!trains_) {
    if (!fs::exists(config_.model.weights)) {
      fail(ExitCode::input,
           "model.weights: {} does not exist. Give the path of a safetensors file (relative paths count from the "
           "configuration file), or leave the key empty to train a model",
           config_.model.weights.string());
    }
    const InputCache::Weights& weights = inputs.weights(config_.model.weights);
    own = weights.description;
    dense_identity_ = weights.hash;
  }
  description_ = describe_model(config_.model, own);
  for (const char* name : {"train", "validation"}) {
    const data::ImageSet* set = images(name);
    if (set == nullptr || set->classes() <= description_.vit.classes) continue;
    fail(ExitCode::input,
         "data.{}.source: {}: the images have {} classes, but the model knows {}. Give the right model, or the file of "
         "its class names as data.{}.classes",
         name, set->summary(), set->classes(), description_.vit.classes, name);
  }
  if (trains_) add_train();
  if (images_.contains("calibration")) {
    add_collect();
    add_cluster();
    choices_ = settle(config_.assemble, config_.router, description_.vit.prefix_tokens() > 0);
    if (choices_.streamed()) add_moments();
    add_assemble();
  }
  if (images_.contains("validation")) {
    variants_.push_back({"dense", trains_ ? "train" : "", "evaluate/dense", "dense", false});
  }
  const auto add_variant = [&](const std::string& name, const std::string& method) {
    if (images_.contains("validation"))
      variants_.push_back({name, "assemble/" + name, "evaluate/" + name, method, false});
    if (config_.finetune.enabled && images_.contains("train") && (name == "experts" || config_.finetune.baseline)) {
      add_finetune(name);
      const std::string tuned = name + "-finetuned";
      if (images_.contains("validation"))
        variants_.push_back({tuned, "finetune/" + name, "evaluate/" + tuned, method, true});
    }
  };
  if (images_.contains("calibration")) {
    if (config_.baseline.enabled) add_variant("vbp", "vbp");
    const std::string method = choices_.needs_covariance ? "fitted" : "moee";
    add_variant("experts", method);
    const auto add_control = [&](bool wanted, const char* name, moe::Routing routing) {
      if (!wanted || !images_.contains("validation")) return;
      const std::string control = std::string("experts-") + name;
      variants_.push_back({control, "assemble/experts", "evaluate/" + control, method, false, routing});
    };
    add_control(config_.controls.random, "random", moe::Routing::random);
    add_control(config_.controls.oracle, "oracle", moe::Routing::oracle);
    add_control(config_.controls.best, "best", moe::Routing::best);
  }
  for (const VariantNode& variant : variants_) add_evaluate(variant);

  identity_ = {{"settings", settings_}, {"inputs", {{"model", dense_identity_}}}};
  for (const auto& [name, set] : images_) identity_["inputs"][name] = set->fingerprint();
  if (!centroids_identity_.empty()) identity_["inputs"]["centroids"] = centroids_identity_;
  if (device_ != DeviceKind::cpu) identity_["device"] = name_of(device_);
}

json Pipeline::with_device(json settings) const {
  if (device_ != DeviceKind::cpu) settings["device"] = name_of(device_);
  return settings;
}

json Pipeline::default_identity() {
  RunConfig defaults;
  return {{"settings", result_settings(defaults)}};
}

void Pipeline::open_images(const std::string& name, const data::ImageSetParams& params, InputCache& cache) {
  if (params.source.empty()) return;
  data::ImageSetParams kept = params;
  if (kept.listings.empty()) kept.listings = config_.run.store / ".listings";
  images_.emplace(name, cache.images(kept));
}

const data::ImageSet* Pipeline::images(const std::string& name) const {
  const auto found = images_.find(name);
  return found == images_.end() ? nullptr : found->second.get();
}

const data::ImageSet& Pipeline::need_images(const std::string& name, const std::string& stage) const {
  const data::ImageSet* set = images(name);
  if (set == nullptr) fail(ExitCode::config, "data.{}.source: stage {} needs images; give their place", name, stage);
  return *set;
}

std::vector<std::string> Pipeline::nodes_of(const std::string& stage) const {
  need_taps(stage);
  std::vector<std::string> ids;
  for (const run::StageNode& node : graph_.nodes()) {
    if (stage == "run" || node.id == stage || node.id.starts_with(stage + "/")) ids.push_back(node.id);
  }
  if (!ids.empty()) return ids;
  if (stage == "train" && !trains_) {
    fail(ExitCode::config,
         "model.weights: the configuration names a trained model, so there is nothing to train; leave it empty to "
         "train one");
  }
  if (stage == "moments" && images_.contains("calibration")) {
    fail(ExitCode::config,
         "assemble.statistics: the experts are made of the recorded tokens alone, so there is no stage moments; set it "
         "to streamed, or assemble.method to least_squares");
  }
  if (stage == "finetune" && !config_.finetune.enabled)
    fail(ExitCode::config, "finetune.enabled: is false, so there is no such stage");
  fail(ExitCode::config, "data.{}.source: stage {} needs images; give their place",
       stage == "finetune" || stage == "train" ? "train" : (stage == "evaluate" ? "validation" : "calibration"), stage);
}

void Pipeline::add_node(const std::string& id, int version, json settings, std::map<std::string, std::string> inputs,
                        std::vector<std::string> needs, std::string plan,
                        std::function<json(run::Context&, const fs::path&)> work,
                        std::function<void(const json&, const fs::path&)> accept) {
  std::string stage = id;
  std::replace(stage.begin(), stage.end(), '/', '-');
  graph_.add({id,
              {std::move(stage), version, std::move(settings), std::move(inputs)},
              std::move(needs),
              std::move(plan),
              std::move(work),
              std::move(accept)});
}

const moe::LoadedModel& Pipeline::dense() {
  if (!dense_) {
    const fs::path path = trains_ ? graph_.folder("train") / kModelFile : config_.model.weights;
    moe::LoadedModel loaded = moe::load_model(path, description_);
    // The configuration may override what the file says.
    loaded.description.preprocess = description_.preprocess;
    loaded.description.vit.short_last_block = description_.vit.short_last_block;
    dense_ = std::make_unique<moe::LoadedModel>(std::move(loaded));
  }
  return *dense_;
}

moe::LoadedModel Pipeline::model_of(const std::string& node) const {
  return moe::load_model(graph_.folder(node) / kModelFile, std::nullopt);
}

std::vector<fs::path> Pipeline::shards(run::Context& context) const {
  const data::ImageSet& set = *images("calibration");
  std::vector<fs::path> paths = shard_paths(graph_.folder("collect"), set.size(), config_.collect);
  context.comm.together([&] { check_shards(paths, dense_identity_, set, config_.collect); });
  return paths;
}

void Pipeline::add_train() {
  const data::ImageSet& set = need_images("train", "train");
  const std::int64_t steps = train::training_steps(config_.train.trainer, set.size());
  add_node("train", kTrainVersion,
           with_device({{"train", section("train")},
                        {"model", model::to_json(description_)},
                        {"on_bad_image", section("data")["on_bad_image"]}}),
           {{"images", set.fingerprint()}}, {},
           fmt::format("{} steps of {} images of {}", steps, config_.train.trainer.batch, set.summary()),
           [this, &set](run::Context& context, const fs::path& folder) {
             need_device(context.device, context.comm);
             return train_model(config_.train,
                                {description_, set, config_.data.on_bad_image, config_.data.max_bad_share}, context,
                                folder);
           });
  dense_identity_ = key("train");
  dense_needs_ = {"train"};
}

void Pipeline::add_collect() {
  const data::ImageSet& set = need_images("calibration", "collect");
  // Activations are recorded of all tokens in all blocks, whatever the finished model leaves out.
  model::ModelDescription whole = description_;
  whole.vit.short_last_block = false;
  const CollectPlan plan = plan_collect(config_.collect, description_, config_.model.micro_batch,
                                        {.images = set.size(), .image_bytes = set.mean_stored_bytes()});
  // Settings that came later do not change the address where they change nothing.
  json settings = section("collect");
  if (config_.collect.taps == CollectTaps::both) settings.erase("taps");
  if (config_.collect.compression == store::Compression::none) settings.erase("compression");
  add_node(
      "collect", kCollectVersion,
      with_device({{"collect", std::move(settings)},
                   {"micro_batch", config_.model.micro_batch},
                   {"precision", name_of(precision())},
                   {"model", model::to_json(whole)},
                   {"on_bad_image", section("data")["on_bad_image"]}}),
      {{"model", dense_identity_}, {"images", set.fingerprint()}}, dense_needs_,
      fmt::format("reads {}; writes {} in {} shards{}", set.summary(), bytes_text(plan.bytes), plan.files,
                  config_.collect.compression == store::Compression::none ? "" : ", before compression"),
      [this, &set](run::Context& context, const fs::path& folder) {
        need_device(context.device, context.comm);
        moe::LoadedModel model = dense();  // the tensors are shared
        model.description.vit.short_last_block = false;
        const CollectInputs inputs{model,
                                   dense_identity_,
                                   set,
                                   config_.model.micro_batch,
                                   config_.data.on_bad_image,
                                   config_.data.max_bad_share,
                                   precision()};
        const PrecisionCheck check = check_precision(model, precision(), set, config_.model.micro_batch,
                                                     precision_sample(set.size()), "collect", context);
        json counts = collect(config_.collect, inputs, context, folder);
        if (check.images > 0) counts["precision_check"] = to_json(check, precision());
        return counts;
      },
      [this](const json& counts, const fs::path& folder) {
        check_bad_share(counts, config_.data.max_bad_share, folder);
      });
  bytes_written_["collect"] = plan.bytes;
}

void Pipeline::need_taps(const std::string& stage) const {
  const auto need = [&](store::Tap tap, const std::string& why) {
    if (records(config_.collect, tap)) return;
    fail(ExitCode::config,
         "collect.taps: {} needs {}, which is not recorded with collect.taps = {}{}; set collect.taps to both", stage,
         store::tap_name(tap), tap == store::Tap::x ? "h" : "x", why);
  };
  if (!images_.contains("calibration")) return;
  if (stage == "cluster") {
    const std::string why =
        config_.collect.taps == CollectTaps::both
            ? std::string()
            : fmt::format(" (cluster.tap is {}; it may be changed instead)", tap_name(config_.cluster.tap));
    if (reads_x(config_.cluster.tap)) need(store::Tap::x, why);
    if (reads_h(config_.cluster.tap)) need(store::Tap::h, why);
  }
  if (stage == "assemble" || stage == "finetune" || stage == "run") {
    need(store::Tap::x, "");  // routers are fitted to inputs
    if (!choices_.streamed() || config_.baseline.enabled || reads_h(config_.cluster.tap)) need(store::Tap::h, "");
  }
}

void Pipeline::add_cluster() {
  const ClusterParams& params = config_.cluster;
  const std::int64_t width = cluster_width(params.tap, description_.vit.width, description_.vit.hidden);
  check_given_centroids(params, description_.vit.depth, width);
  std::map<std::string, std::string> inputs{{"collect", key("collect")}};
  if (starts_from_file(params)) inputs["centroids"] = centroids_identity_ = hash_file(params.centroids);
  const int threads = config_.run.threads > 0 ? config_.run.threads : usable_cores();
  const std::int64_t rows = recorded_rows(images("calibration")->size());
  const double memory = cluster_plan(rows, 1, threads).memory();
  add_node(
      "cluster", kClusterVersion, {{"cluster", settings_in_use(params, section("cluster"))}}, std::move(inputs),
      {"collect"},
      fmt::format("{}, {} layers, {} rows of {} float16 values each; at most {} of memory if one rank has them all",
                  method_text(params), description_.vit.depth, rows, width, bytes_text(memory)),
      [this](run::Context& context, const fs::path& folder) {
        const ClusterInputs inputs{shards(context), description_.vit.depth,
                                   [this](std::int64_t layer) { return mlp_layer(layer); }};
        return cluster_layers(config_.cluster, inputs, context, folder);
      });
}

std::int64_t Pipeline::recorded_rows(std::int64_t images) const {
  return images * static_cast<std::int64_t>(choose_tokens(config_.collect, description_.vit, "").size());
}

ClusterPlan Pipeline::cluster_plan(std::int64_t rows, std::int64_t ranks, std::int64_t threads) const {
  return plan_cluster(config_.cluster, {.rows = rows,
                                        .x_width = description_.vit.width,
                                        .h_width = description_.vit.hidden,
                                        .ranks = ranks,
                                        .threads = threads});
}

RowMap Pipeline::mlp_layer(std::int64_t layer) {
  const std::string prefix = model::mlp_prefix(layer) + (config_.cluster.tap == ClusterTap::y ? "fc2." : "fc1.");
  const at::Tensor weight = dense().tensors.at(prefix + "weight").to(at::kFloat).contiguous();
  RowMap map{.outputs = weight.size(0), .inputs = weight.size(1), .weight = {}, .bias = {}};
  map.weight.assign(weight.const_data_ptr<float>(), weight.const_data_ptr<float>() + weight.numel());
  if (const auto found = dense().tensors.find(prefix + "bias"); found != dense().tensors.end()) {
    const at::Tensor bias = found->second.to(at::kFloat).contiguous();
    map.bias.assign(bias.const_data_ptr<float>(), bias.const_data_ptr<float>() + bias.numel());
  }
  return map;
}

MomentsParams Pipeline::moments_params() const {
  MomentsParams params = config_.moments;
  if (params.products == Products::automatic)
    params.products = choices_.needs_covariance ? Products::full : Products::diagonal;
  return params;
}

std::int64_t Pipeline::planned_clusters() const {
  const std::int64_t most = most_clusters(config_.cluster);
  return most > 0 ? most : config_.cluster.kmeans.k;
}

std::optional<MomentsPlan> Pipeline::moments_plan(const MomentsScale& scale) const {
  if (!images_.contains("calibration") || !choices_.streamed()) return std::nullopt;
  return plan_moments(moments_params(), description_.vit, planned_clusters(), scale);
}

void Pipeline::add_moments() {
  const data::ImageSet& set = need_images("calibration", "moments");
  const MomentsParams params = moments_params();
  if (choices_.needs_covariance && params.products == Products::diagonal) {
    fail(ExitCode::config,
         "moments.products: diagonal leaves out what score elimination and compensation least_squares need; set it to "
         "full or automatic");
  }
  const double bytes = moment_bytes(params, planned_clusters(), description_.vit.hidden, description_.vit.width);
  std::vector<std::string> needs = dense_needs_;
  needs.insert(needs.end(), {"collect", "cluster"});
  json own = section("moments");
  if (params.shifts == 0) own.erase("shifts");  // it came later and changes nothing
  own["products"] = params.products == Products::full ? "full" : "diagonal";
  // Of the router what decides where tokens go.
  json router = section("router");
  router.erase("class_token");
  router["kind"] = static_cast<int>(choices_.router.kind);
  add_node("moments", kMomentsVersion,
           with_device({{"moments", std::move(own)},
                        {"router", std::move(router)},
                        {"class_token_apart", choices_.class_token_apart()},
                        {"model", model::to_json(description_)},
                        {"on_bad_image", section("data")["on_bad_image"]}}),
           {{"model", dense_identity_}, {"images", set.fingerprint()}, {"cluster", key("cluster")}}, std::move(needs),
           fmt::format("reads {}; {} of sums a layer, at most {} GB at a time", set.summary(), bytes_text(bytes),
                       params.memory_gb),
           [this, &set, params](run::Context& context, const fs::path& folder) {
             need_device(context.device, context.comm);
             return gather_moments(
                 params,
                 {dense(), set, graph_.folder("cluster"), shards(context), choices_.router,
                  choices_.class_token_apart(), dense_identity_, config_.data.on_bad_image, config_.data.max_bad_share},
                 context, folder);
           });
}

std::string Pipeline::sequential_text() const {
  if (!choices_.sequential()) return {};
  const MomentsParams& sampling = config_.moments;
  const int passes = sampling.importance ? 4 : 3;
  const double streams = stream_bytes(description_.vit, sampling) * static_cast<double>(images("calibration")->size()),
               sums = sequential_sum_bytes(choices_.params, planned_clusters(), description_.vit.hidden,
                                           description_.vit.width);
  return fmt::format(
      "; then the layers once more in order: some {} runs over the images{}, and {} more where a rank's share of {} of "
      "streams does not fit into {} GB; {} of sums on each rank, about three times that on rank 0 while it fits",
      passes, view_count(sampling) > 1 ? fmt::format(", {} views of each", view_count(sampling)) : "",
      description_.vit.depth / 2, bytes_text(streams), config_.assemble.stream_gb, bytes_text(sums));
}

void Pipeline::add_assemble() {
  const bool streamed = choices_.streamed();
  std::vector<std::string> needs = dense_needs_;
  needs.insert(needs.end(), {"collect", streamed ? "moments" : "cluster"});
  // What the dense model computes in its last block changes the budget and the files.
  json own = section("assemble");
  // Settings that came later do not change the address where they change nothing.
  if (!choices_.sequential()) own.erase("sequential"), own.erase("sequential_ridge");
  if (!config_.assemble.static_layers) own.erase("static_layers");
  const json settings{
      {"assemble", std::move(own)}, {"router", section("router")}, {"model", model::to_json(description_)}};
  std::map<std::string, std::string> sources{{"model", dense_identity_}, {"collect", key("collect")}};
  sources[streamed ? "moments" : "cluster"] = key(streamed ? "moments" : "cluster");
  add_node("assemble/experts", kAssembleVersion, settings, std::move(sources), needs,
           "cuts experts; writes one safetensors file" + sequential_text(),
           [this, streamed](run::Context& context, const fs::path& folder) {
             const AssembleInputs inputs{dense(),
                                         shards(context),
                                         streamed ? fs::path() : graph_.folder("cluster"),
                                         streamed ? graph_.folder("moments") : fs::path(),
                                         dense_identity_,
                                         images("calibration"),
                                         config_.model.micro_batch,
                                         &config_.moments,
                                         config_.data.on_bad_image,
                                         tap_name(config_.cluster.tap)};
             return assemble_experts(choices_, inputs, context, folder);
           });
  if (!config_.baseline.enabled) return;
  const VbpParams& vbp = config_.baseline.vbp;
  const bool as_experts = !vbp.share && !vbp.target_macs;
  std::map<std::string, std::string> inputs{{"model", dense_identity_}, {"collect", key("collect")}};
  needs = dense_needs_;
  needs.emplace_back("collect");
  if (as_experts) {
    inputs["experts"] = key("assemble/experts");
    needs.emplace_back("assemble/experts");
  }
  add_node("assemble/vbp", kAssembleVersion,
           {{"baseline", section("baseline")}, {"model", model::to_json(description_)}}, std::move(inputs),
           std::move(needs), as_experts ? "prunes to the experts' MACs" : "prunes to its own budget",
           [this, as_experts](run::Context& context, const fs::path& folder) {
             std::optional<double> macs;
             if (as_experts) macs = expected_macs(graph_.folder("assemble/experts"));
             return assemble_vbp(config_.baseline.vbp, {dense(), shards(context), {}, {}, dense_identity_}, macs,
                                 context, folder);
           });
}

void Pipeline::add_finetune(const std::string& variant) {
  const data::ImageSet& set = need_images("train", "finetune");
  const std::string source = "assemble/" + variant;
  std::vector<std::string> needs = dense_needs_;
  needs.push_back(source);
  json settings = section("finetune");
  settings.erase("baseline");  // says what is fine-tuned, not how
  add_node("finetune/" + variant, kFinetuneVersion,
           with_device({{"finetune", std::move(settings)}, {"on_bad_image", section("data")["on_bad_image"]}}),
           {{"model", dense_identity_}, {"start", key(source)}, {"images", set.fingerprint()}}, std::move(needs),
           fmt::format("{} steps of {} images of {}", train::training_steps(config_.finetune.trainer, set.size()),
                       config_.finetune.trainer.batch, set.summary()),
           [this, &set, source](run::Context& context, const fs::path& folder) {
             need_device(context.device, context.comm);
             const moe::LoadedModel start = model_of(source);
             return finetune(config_.finetune, {dense(), start, set, config_.data.on_bad_image}, context, folder);
           });
}

void Pipeline::add_evaluate(const VariantNode& variant) {
  const data::ImageSet& set = need_images("validation", "evaluate");
  std::vector<std::string> needs;
  if (!variant.model.empty()) needs.push_back(variant.model);
  json settings{{"micro_batch", config_.model.micro_batch},
                {"precision", name_of(precision())},
                {"model", model::to_json(description_)},
                {"on_bad_image", section("data")["on_bad_image"]},
                {"max_bad_share", config_.data.max_bad_share}};
  std::map<std::string, std::string> sources{{"model", variant.model.empty() ? dense_identity_ : key(variant.model)},
                                             {"images", set.fingerprint()}};
  if (variant.routing != moe::Routing::learnt) {
    settings["routing"] = variant.name;
    if (variant.routing == moe::Routing::random) settings["seed"] = config_.controls.seed;
    sources["dense"] = dense_identity_;
    needs.insert(needs.end(), dense_needs_.begin(), dense_needs_.end());
    if (variant.routing == moe::Routing::oracle) {
      sources["cluster"] = key("cluster");
      needs.emplace_back("cluster");
    }
  }
  add_node(variant.evaluation, kEvaluateVersion, with_device(std::move(settings)), std::move(sources), std::move(needs),
           fmt::format("reads {}", set.summary()),
           [this, &set, variant](run::Context& context, const fs::path& folder) {
             need_device(context.device, context.comm);
             moe::LoadedModel other;
             if (variant.method != "dense") other = model_of(variant.model);
             const bool learnt = variant.routing == moe::Routing::learnt;
             const EvaluateInputs inputs{variant.method == "dense" ? dense() : other,
                                         set,
                                         config_.model.micro_batch,
                                         config_.data.on_bad_image,
                                         config_.data.max_bad_share,
                                         precision(),
                                         variant.method == "dense" ? precision_sample(set.size()) : 0,
                                         variant.routing,
                                         learnt ? nullptr : &dense(),
                                         learnt ? fs::path() : graph_.folder("cluster"),
                                         config_.controls.seed};
             return evaluate(inputs, context, folder);
           });
}

}  // namespace moextract::stages
