// The k that an automatic choice has tried of an unfinished layer, as a file: a stopped run does not try them again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cluster/automatic_k.h"
#include "run/stage_graph.h"

namespace moextract::stages {

/// Stands beside the layer's file while the layer is unfinished.
std::filesystem::path tried_state_path(const std::filesystem::path& folder, std::int64_t layer);

class TriedState {
 public:
  /// `key` says of which artefact and layer the state is.
  TriedState(std::filesystem::path path, std::string key) : path_(std::move(path)), key_(std::move(key)) {}

  /// Collective. What rank 0 finds in the file; nothing, with a warning, if it is damaged or of another artefact.
  std::vector<cluster::TriedK> load(run::Context& context);
  /// On rank 0. Writes the file with one more.
  void add(const cluster::TriedK& tried);

 private:
  std::filesystem::path path_;
  std::string key_;
  std::vector<cluster::TriedK> tried_;
};

}  // namespace moextract::stages
