// What a job stands on: versions of the libraries, and where its ranks are. Printed by doctor, and logged when a run
// begins.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "core/device.h"

namespace moextract::app {

/// What one rank says of itself.
struct RankPlace {
  std::string host;
  int process = 0, cores = 0, threads = 0;
  std::string gpu;          ///< the GPU it would take, or why there is none
  std::string device = {};  ///< what it computes models on: "cpu", "cuda:0"
};

struct Environment {
  std::vector<std::pair<std::string, std::string>> versions;  ///< name and version, the same on all ranks
  std::vector<RankPlace> ranks;
  int tasks = 0;  ///< that the launcher says it started; 0: there is none
  std::string transport;

  int hosts() const;
  bool has_more_ranks_than_cores() const;
  /// A heading and one line a rank.
  std::vector<std::string> table() const;
  /// "moextract 0.1.0, MPI Open MPI v4.1.4, ..."
  std::string version_line() const;
};

/// Collective. `threads` and device of this rank. Throws UserError (distributed) on all ranks, naming the two, if a
/// rank runs with another version of the program or of a library than rank 0: bits and file formats would not fit
/// together.
Environment survey_environment(comm::Communicator& comm, int threads, const Device& device = {});

/// What the ranks' versions have to be: all like the first. Throws UserError (distributed).
void check_versions(const std::vector<std::string>& versions, const std::vector<RankPlace>& ranks);

}  // namespace moextract::app
