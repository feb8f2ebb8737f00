// moextract run, and each stage by its name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace moextract::app {

struct RunOptions {
  std::string stage = "run";  ///< "run", "report" or the name of a stage
  std::filesystem::path config;
  std::vector<std::string> settings;  ///< --set, in order
  bool dry_run = false;
  bool verbose = false;
};

/// Collective. Runs what is not there yet and prints the table (rank 0, standard output).
void run_command(const RunOptions& options, comm::Communicator& comm);

/// Checks every hash of the artefacts of a run. Prints what is broken and what to do; returns whether all is well.
bool verify_command(const RunOptions& options);

}  // namespace moextract::app
