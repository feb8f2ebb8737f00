#include "stages/invariants.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "moe/model_file.h"
#include "stages/assemble/assemble.h"
#include "stages/cluster/cluster.h"
#include "stages/evaluate/evaluate.h"
#include "store/activation_shard.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

void check_shards(const fs::path& folder, const json& counts) {
  const auto shards = counts.at("shards").get<std::int64_t>();
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".h5") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  if (static_cast<std::int64_t>(paths.size()) != shards)
    fail(ExitCode::input, "there are {} shards, but {} were written", paths.size(), shards);
  std::int64_t next = 0, rows = 0, images = 0;
  for (const fs::path& path : paths) {
    const store::ShardReader shard(path);
    if (shard.info().first_image != next) {
      fail(ExitCode::input, "{} begins with image {}, but the shards before it end with image {}",
           path.filename().string(), shard.info().first_image, next - 1);
    }
    next += shard.info().image_count;
    rows += shard.rows();
    images += static_cast<std::int64_t>(shard.images().size());
  }
  if (rows != counts.at("rows"))
    fail(ExitCode::input, "the shards hold {} rows, but {} were counted", rows, counts.at("rows").get<std::int64_t>());
  if (images != counts.at("images"))
    fail(ExitCode::input, "the shards hold {} images, but {} were counted", images,
         counts.at("images").get<std::int64_t>());
}

void check_clusters(const fs::path& folder, const json& counts) {
  const auto layers = counts.at("layers").get<std::int64_t>(), rows = counts.at("rows").get<std::int64_t>();
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const LayerClusters clusters = load_layer_clusters(folder, layer);  // labels are in range
    const std::string file = layer_clusters_path(folder, layer).filename().string();
    if (static_cast<std::int64_t>(clusters.labels.size()) != rows)
      fail(ExitCode::input, "{} holds {} labels for {} rows", file, clusters.labels.size(), rows);
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(clusters.k), 0);
    for (const std::int32_t label : clusters.labels) {
      if (label >= 0) ++sizes[static_cast<std::size_t>(label)];  // -1: noise that was dropped
    }
    if (clusters.summary.value("sizes", std::vector<std::int64_t>{}) != sizes)
      fail(ExitCode::input, "{}: its sizes are not the counts of its labels", file);
  }
}

void check_model(const fs::path& folder) {
  const moe::LoadedModel model = moe::load_model(folder / kModelFile, std::nullopt);
  static_cast<void>(moe::make_network(model.description, model.tensors));
}

void check_evaluation(const fs::path& folder, const json& counts) {
  const json evaluation = json::parse(read_text_file(folder / kEvaluationFile));
  const auto top1 = evaluation.at("top1_correct").get<std::int64_t>(),
             top5 = evaluation.at("top5_correct").get<std::int64_t>(),
             images = evaluation.at("images").get<std::int64_t>();
  if (top1 < 0 || top1 > top5 || top5 > images || images != counts.at("images")) {
    fail(ExitCode::input, "{}: {} right, {} among the first five, of {} images ({} were counted) cannot be",
         kEvaluationFile, top1, top5, images, counts.at("images").get<std::int64_t>());
  }
}

}  // namespace

std::vector<std::string> broken_invariants(const fs::path& folder, const json& manifest) {
  const std::string stage = manifest.at("stage");
  const json counts = manifest.value("counts", json::object());
  try {
    if (stage == "collect") check_shards(folder, counts);
    if (stage == "cluster") check_clusters(folder, counts);
    if (stage == "train" || stage.starts_with("assemble") || stage.starts_with("finetune")) check_model(folder);
    if (stage.starts_with("evaluate")) check_evaluation(folder, counts);
  } catch (const std::exception& error) {
    return {error.what()};
  }
  return {};
}

}  // namespace moextract::stages
