// Where the clustering of one layer stands, as a file: a killed or stopped run goes on from its iteration.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cluster/kmeans.h"
#include "comm/communicator.h"

namespace moextract::stages {

/// Stands beside the layer's file while the layer is unfinished.
std::filesystem::path layer_state_path(const std::filesystem::path& folder, std::int64_t layer);

/// Writes atomically. `key` says of which artefact and layer the state is. Throws UserError (storage).
void save_layer_state(const std::filesystem::path& path, const std::string& key, const cluster::KMeansState& state,
                      std::int64_t k);

/// Nothing if there is no file. Throws UserError (input) if it is damaged, or of another artefact or layer.
std::optional<cluster::KMeansState> load_layer_state(const std::filesystem::path& path, const std::string& key);

/// Collective. Rank 0's state on every rank; what the others pass is ignored. All ranks go on from one reading of the
/// file: a file system may show them different ages of it.
void share_layer_state(std::optional<cluster::KMeansState>& state, comm::Communicator& comm);

}  // namespace moextract::stages
