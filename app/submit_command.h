// moextract submit, logs and cancel: runs as Slurm jobs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/store_commands.h"
#include "slurm/job_script.h"

namespace moextract::app {

/// What the command line says of a job; 0 and empty: as the site file says.
struct JobOptions {
  std::filesystem::path site;
  std::string nodes = "1";  ///< "4", or "2-8" where a job may take what is free
  std::int64_t gpus_per_node = -1, tasks_per_node = 0, cpus_per_task = 0, tries = 0;
  std::string time, partition, account, qos, memory, container;
};

struct SubmitOptions {
  std::filesystem::path config;
  std::vector<std::string> settings;
  JobOptions job;
  std::string dependency;
  bool print = false;      ///< the script to standard output, nothing is submitted
  bool per_stage = false;  ///< a job for each stage
};

/// The job that site file and command line describe together; throws UserError (config, usage).
slurm::JobRequest job_request(const JobOptions& options);

/// Words that start the program in a job: this program, or the one in the container.
std::vector<std::string> job_program(const JobOptions& options);

/// Checks the configuration, writes the script beside the run's folder and submits it. Throws UserError (distributed)
/// where Slurm is absent or refuses, (conflict) where a job of this run is still in the queue.
void submit_command(const SubmitOptions& options);
/// What the run's job said; `follow`: goes on until it is interrupted.
void logs_command(const RunReference& reference, bool follow);
/// The ranks save and leave, a job that waits is taken from the queue; `now`: without saving.
void cancel_command(const RunReference& reference, bool now);
/// "job 12: RUNNING on n[1-2], 3:10 of 4:00:00"; empty for a run that was not submitted.
std::string job_text(const std::filesystem::path& run_folder);

/// moextract doctor --slurm: what the cluster offers against what a job asks for, by the site file, the command line
/// and, if it is given, the configuration.
void slurm_doctor(const SubmitOptions& options);

/// The script of the whole run's job, or of `moextract doctor` where no configuration is given.
std::string job_script_text(const SubmitOptions& options);

}  // namespace moextract::app
