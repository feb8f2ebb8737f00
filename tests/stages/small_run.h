// A whole run in miniature: pictures, a model and a configuration written into a folder of the test's own.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "stages/pipeline.h"

namespace moextract::stages::test {

class SmallRun {
 public:
  /// Writes 60 training and 40 validation pictures of 8x8 pixels in 4 classes (IDX), an untrained ViT of 2 blocks (17
  /// tokens, width 16, 32 hidden neurons), and config.yaml. The folder is removed with the object.
  SmallRun();
  ~SmallRun();
  SmallRun(const SmallRun&) = delete;
  SmallRun& operator=(const SmallRun&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path config_file() const { return folder_ / "config.yaml"; }
  std::filesystem::path weights_file() const { return folder_ / "model.safetensors"; }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& text) const;

  /// The configuration, with settings on top and the store in `folder()/store`.
  RunConfig config(std::vector<std::string> settings, const std::string& store = "store") const;

 private:
  std::filesystem::path folder_;
};

/// Runs the stages named (default: all) on `ranks` ranks of `threads` threads in this process. Returns each node's
/// artefact folder.
std::map<std::string, std::filesystem::path> run_stages(const RunConfig& config, int ranks, int threads,
                                                        const std::vector<std::string>& wanted = {"run"});

nlohmann::json read_json(const std::filesystem::path& path);

/// Hash of every data file of an artefact but measured times and the record of how it came to be.
std::map<std::string, std::string> content(const std::filesystem::path& artefact);

}  // namespace moextract::stages::test
