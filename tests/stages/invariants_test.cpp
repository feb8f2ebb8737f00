// What verify finds beside hashes: files that are as they were written, but do not fit together.
#include "stages/invariants.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/file.h"
#include "run/artefact.h"
#include "stages/assemble/assemble.h"
#include "stages/cluster/cluster.h"
#include "stages/evaluate/evaluate.h"
#include "store/safetensors.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Invariants : public testing::Test {
 protected:
  Invariants() : folders_(run_stages(small_.config({"finetune.steps=1"}), 1, 1)) {}

  json manifest(const std::string& id) const { return run::ArtefactStore::manifest_of(folders_.at(id)); }
  /// The one line that is wrong with a stage's artefact.
  std::string wrong(const std::string& id, const json& manifest) const {
    const std::vector<std::string> lines = broken_invariants(folders_.at(id), manifest);
    EXPECT_EQ(lines.size(), 1u);
    return lines.empty() ? "" : lines.front();
  }
  static void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  SmallRun small_;
  std::map<std::string, fs::path> folders_;
};

TEST_F(Invariants, HoldForWhatTheStagesMake) {
  for (const auto& [id, folder] : folders_)
    EXPECT_EQ(broken_invariants(folder, manifest(id)), std::vector<std::string>()) << id;
}

TEST_F(Invariants, OfShards) {
  json changed = manifest("collect");
  changed["counts"]["rows"] = 1;
  expect_contains(wrong("collect", changed), "the shards hold 480 rows, but 1 were counted");
  fs::remove(folders_.at("collect") / "shard-000001.h5");
  expect_contains(wrong("collect", manifest("collect")), "there are 3 shards, but 4 were written");
  fs::copy_file(folders_.at("collect") / "shard-000002.h5", folders_.at("collect") / "shard-000001.h5");
  expect_contains(wrong("collect", manifest("collect")),
                  "shard-000001.h5 begins with image 32, but the shards before it end with image 15");
}

TEST_F(Invariants, OfClusters) {
  json changed = manifest("cluster");
  changed["counts"]["rows"] = 1;
  expect_contains(wrong("cluster", changed), "layer-000.safetensors holds 480 labels for 1 rows");
  const fs::path path = layer_clusters_path(folders_.at("cluster"), 1);
  {
    const store::SafetensorsFile file(path);
    std::map<std::string, store::TensorView> tensors = file.tensors();
    std::vector<std::int32_t> labels(480);
    std::memcpy(labels.data(), tensors.at("labels").data.data(), labels.size() * sizeof(labels[0]));
    labels[7] = (labels[7] + 1) % 3;
    tensors.at("labels").data = std::as_bytes(std::span(labels));
    store::write_safetensors(path, tensors, file.metadata());
  }
  expect_contains(wrong("cluster", manifest("cluster")),
                  "layer-001.safetensors: its sizes are not the counts of its labels");
}

TEST_F(Invariants, OfModelsAndEvaluations) {
  const fs::path evaluation = folders_.at("evaluate/dense") / kEvaluationFile;
  json changed = json::parse(read_text_file(evaluation));
  changed["top1_correct"] = 41;
  write_file_atomically(evaluation, changed.dump());
  expect_contains(wrong("evaluate/dense", manifest("evaluate/dense")), "41 right");
  write_file_atomically(folders_.at("assemble/experts") / kModelFile, "no model");
  expect_contains(wrong("assemble/experts", manifest("assemble/experts")), kModelFile);
}

}  // namespace
}  // namespace moextract::stages::test
