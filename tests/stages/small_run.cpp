#include "tests/stages/small_run.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "comm/backends.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/vit.h"
#include "run/log.h"
#include "stages/evaluate/evaluate.h"

namespace moextract::stages::test {
namespace fs = std::filesystem;
namespace {

void big_endian(std::ofstream& file, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) file.put(static_cast<char>(value >> shift & 0xff));
}

/// Noise on a bright quadrant that tells the class.
void write_idx(const fs::path& folder, const std::string& stem, int count, std::uint64_t seed) {
  std::ofstream images(folder / (stem + "-images-idx3-ubyte"), std::ios::binary),
      labels(folder / (stem + "-labels-idx1-ubyte"), std::ios::binary);
  big_endian(images, 0x803), big_endian(images, static_cast<std::uint32_t>(count)), big_endian(images, 8),
      big_endian(images, 8);
  big_endian(labels, 0x801), big_endian(labels, static_cast<std::uint32_t>(count));
  RandomStream noise(seed, 1);
  for (int i = 0; i < count; ++i) {
    const int label = i % 4;
    labels.put(static_cast<char>(label));
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        const int bright = (y / 4) * 2 + x / 4 == label ? 120 : 0;
        images.put(static_cast<char>(bright + static_cast<int>(noise.below(100))));
      }
    }
  }
}

}  // namespace

SmallRun::SmallRun() {
  std::string pattern = (fs::temp_directory_path() / "moextract-stages-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
  write_idx(folder_, "train", 60, 1);
  write_idx(folder_, "val", 40, 2);
  model::ModelDescription description;
  description.name = "small";
  description.vit = {
      .image_size = 8, .patch_size = 2, .channels = 1, .width = 16, .depth = 2, .heads = 2, .hidden = 32, .classes = 4};
  description.preprocess = {.resize = 0, .crop = 8, .channels = 1};
  moe::save_model(weights_file(), description, model::initial_vit_tensors(description.vit, 5));
  write("config.yaml", R"(run:
  name: small
model:
  weights: model.safetensors
  micro_batch: 4
data:
  calibration:
    source: train-images-idx3-ubyte
  train:
    source: train-images-idx3-ubyte
  validation:
    source: val-images-idx3-ubyte
collect:
  tokens_per_image: 8
  images_per_shard: 16
cluster:
  k: 3
  max_iterations: 10
assemble:
  target_macs: 0.8
  min_neurons: 2
baseline:
  min_neurons: 2
finetune:
  steps: 4
  batch: 12
  micro_batch: 4
  learning_rate: 1e-3
)");
}

SmallRun::~SmallRun() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void SmallRun::write(const std::string& name, const std::string& text) const {
  std::ofstream(folder_ / name) << text;
}

RunConfig SmallRun::config(std::vector<std::string> settings, const std::string& store) const {
  settings.push_back("run.store=" + (folder_ / store).string());
  settings.push_back("run.folder=" + (folder_ / (store + "-run")).string());
  RunConfig config;
  read_config(config_file(), settings, config);
  return config;
}

std::map<std::string, fs::path> run_stages(const RunConfig& config, int ranks, int threads,
                                           const std::vector<std::string>& wanted) {
  std::map<std::string, fs::path> folders;
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    Pipeline pipeline(config);
    Workers workers(threads, [] { at::set_num_threads(1); });
    run::Context context{.comm = comm,
                         .workers = workers,
                         .log = run::make_logger(1, ranks, false),
                         .device = settle_device(config.run.device, comm)};
    std::vector<std::string> nodes;
    for (const std::string& stage : wanted) {
      for (const std::string& id : pipeline.nodes_of(stage)) nodes.push_back(id);
    }
    pipeline.graph().execute(nodes, context, "test");
    if (!comm.is_root()) return;
    for (const run::StageNode& node : pipeline.graph().nodes()) folders[node.id] = pipeline.graph().folder(node.id);
  });
  return folders;
}

nlohmann::json read_json(const fs::path& path) {
  return nlohmann::json::parse(read_text_file(path));
}

std::map<std::string, std::string> content(const fs::path& artefact) {
  std::map<std::string, std::string> hashes;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(artefact)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "manifest.json" || name == "DONE" || name == kTimingFile) continue;
    if (name.ends_with(".iterations.jsonl")) continue;  // the seconds of iterations
    hashes[name] = hash_file(entry.path());
  }
  return hashes;
}

}  // namespace moextract::stages::test
