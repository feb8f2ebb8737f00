// A job script out of the template slurm/job.sbatch: what a job asks for, and what it runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "slurm/site.h"

namespace moextract::slurm {

/// slurm/job.sbatch, as it was when the program was built.
std::string_view job_template();

struct JobRequest {
  std::string name = "moextract";
  std::int64_t nodes = 1, most_nodes = 0;  ///< most: 0 or, for a job that takes what is free, more than `nodes`
  std::int64_t tasks_per_node = 1, cpus_per_task = 1, gpus_per_node = 0;
  std::string gpu_type, time, partition, account, qos, memory, dependency;
  std::filesystem::path output;  ///< of the job script itself
  std::string array;             ///< "0-99%20"; empty: no array
  std::int64_t warning = 180, tries = 3;
  std::vector<std::string> launcher;   ///< words
  std::vector<std::string> program;    ///< words; a container's command first
  std::vector<std::string> arguments;  ///< of the program
  std::vector<std::string> preamble, sbatch_options;
  std::filesystem::path state;          ///< folder in which the job counts its starts
  std::filesystem::path tasks, folder;  ///< of a sweep's array; empty otherwise
};

/// What the site file says, for `nodes` nodes. With GPUs one task a GPU, otherwise one a socket; the cores of a node
/// are divided among its tasks.
JobRequest job_for(const SiteParams& site);
/// Divides the site's cores among the tasks, after either has changed.
void share_cores(JobRequest& request, const SiteParams& site);

/// The template with its marked blocks replaced. Throws UserError (config) where a mark is missing or a value has a
/// line end.
std::string job_script(const JobRequest& request, std::string_view text);

/// Words of a command as a person writes them, split at spaces.
std::vector<std::string> words_of(const std::string& text);

}  // namespace moextract::slurm
