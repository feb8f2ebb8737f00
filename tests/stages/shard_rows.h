// Shards made of rows at hand, and the cluster stage run on them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "stages/cluster/cluster.h"

namespace moextract::stages::test {

/// Writes a shard of one layer; each row is an image with one token. `x` is [rows, x_width], `h` [rows, h_width];
/// a width of 0 leaves the tap out. Values that are not finite are put in afterwards, past the writer's check.
void write_shard(const std::filesystem::path& path, std::int64_t first_image, const std::vector<float>& x,
                 std::int64_t x_width, const std::vector<float>& h, std::int64_t h_width);

/// How a run of the stage ended, the same on every rank.
struct ClusterOutcome {
  ExitCode code = ExitCode::ok;
  std::string message;  ///< of rank 0's error
  LayerClusters layer;  ///< of layer 0, where there was none
};

/// Runs the stage on `ranks` ranks into `folder`, which it empties first; every rank must end with the same code.
ClusterOutcome cluster_shards(const ClusterParams& params, const std::vector<std::filesystem::path>& shards, int ranks,
                              const std::filesystem::path& folder,
                              const std::function<RowMap(std::int64_t)>& output = {});

}  // namespace moextract::stages::test
