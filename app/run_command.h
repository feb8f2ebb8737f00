// moextract run, and each stage by its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "stages/run_config.h"

namespace moextract::app {

struct RunOptions {
  std::string stage = "run";      ///< "run", "report" or the name of a stage
  std::vector<std::string> only;  ///< with "run": stages by their names in the plan, and what they need; empty: all
  std::filesystem::path config;
  std::vector<std::string> settings;  ///< --set, in order
  bool dry_run = false;
  // With dry_run: what collect's plan is for, instead of the images and ranks at hand; 0: those, or as last measured.
  std::int64_t plan_images = 0;
  int plan_ranks = 0;
  double plan_rate = 0;          ///< images a second of one rank in collect
  double plan_moments_rate = 0;  ///< the same in a pass of moments
  bool explain = false;
  bool verbose = false;
};

/// Collective. Runs what is not there yet and prints the table (rank 0, standard output).
void run_command(const RunOptions& options, comm::Communicator& comm);

/// runs/<name>, with the settings of the command line in its name: other settings are another run.
std::filesystem::path run_folder(const stages::RunConfig& config, const std::vector<std::string>& settings);

}  // namespace moextract::app
