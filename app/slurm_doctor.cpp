// moextract doctor --slurm: what the cluster offers against what a job asks for.
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "app/submit_command.h"
#include "core/error.h"
#include "core/file.h"
#include "run/progress.h"
#include "slurm/cluster.h"

namespace moextract::app {
namespace {

void compare(const slurm::JobRequest& job, const slurm::Partition& partition, std::vector<std::string>& problems) {
  const std::int64_t seconds = slurm::seconds_of(job.time);
  if (partition.seconds >= 0 && seconds > partition.seconds) {
    problems.push_back(fmt::format("time {} is more than partition {} allows ({})", job.time, partition.name,
                                   run::duration_text(static_cast<double>(partition.seconds))));
  }
  if (job.nodes > partition.nodes) {
    problems.push_back(
        fmt::format("{} nodes are more than the {} of partition {}", job.nodes, partition.nodes, partition.name));
  }
  const std::int64_t cores = job.tasks_per_node * job.cpus_per_task;
  if (cores > partition.cpus_per_node) {
    problems.push_back(fmt::format("{} tasks of {} cores a node are more than the {} that nodes of {} have",
                                   job.tasks_per_node, job.cpus_per_task, partition.cpus_per_node, partition.name));
  }
  if (job.gpus_per_node > 0 && partition.gpus.find("gpu") == std::string::npos) {
    problems.push_back(
        fmt::format("{} GPUs a node are asked for, but partition {} has none", job.gpus_per_node, partition.name));
  } else if (job.gpus_per_node > 0 && !job.gpu_type.empty() && partition.gpus.find(job.gpu_type) == std::string::npos) {
    problems.push_back(fmt::format("no GPU of the kind {} in partition {}, which has {}", job.gpu_type, partition.name,
                                   partition.gpus));
  }
}

/// "pmix" of "--mpi=pmix".
std::string mpi_kind(const slurm::JobRequest& job) {
  for (const std::string& word : job.launcher) {
    if (word.starts_with("--mpi=")) return word.substr(6);
  }
  return "";
}

/// What sbatch says against the script.
std::string refusal_of(const std::string& text) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (error) fail(ExitCode::storage, "there is no folder for temporary files (TMPDIR): {}", error.message());
  struct Script {
    std::filesystem::path path;
    ~Script() {
      std::error_code ignored;
      std::filesystem::remove(path, ignored);
    }
  } const script{folder / fmt::format("moextract-doctor-{}.sbatch", ::getpid())};
  write_file_atomically(script.path, text);
  return slurm::refusal(script.path);
}

}  // namespace

void slurm_doctor(const SubmitOptions& options) {
  slurm::need_slurm();
  const slurm::JobRequest job = job_request(options.job);
  std::vector<std::string> problems;
  const std::vector<slurm::Partition> partitions = slurm::partitions();
  fmt::print("{:<20} {:>6} {:>6} {:>12}  {}\n", "partition", "nodes", "cores", "limit", "GPUs");
  for (const slurm::Partition& p : partitions) {
    fmt::print("{:<20} {:>6} {:>6} {:>12}  {}\n", p.name + (p.is_default ? "*" : ""), p.nodes, p.cpus_per_node,
               p.seconds < 0 ? "none" : run::duration_text(static_cast<double>(p.seconds)), p.gpus);
  }
  const auto wanted = std::find_if(partitions.begin(), partitions.end(), [&](const slurm::Partition& p) {
    return job.partition.empty() ? p.is_default : p.name == job.partition;
  });
  if (partitions.empty()) {
    problems.emplace_back("sinfo names no partition: is the controller up?");
  } else if (wanted != partitions.end()) {
    compare(job, *wanted, problems);
  } else if (job.partition.empty()) {
    problems.emplace_back("the cluster has no default partition: set partition in the site file");
  } else {
    problems.push_back(fmt::format("there is no partition {}", job.partition));
  }
  const std::vector<std::string> kinds = slurm::mpi_kinds();
  const std::string kind = mpi_kind(job);
  fmt::print("\n{:<20} {}\n", "srun --mpi", fmt::join(kinds, ", "));
  if (!partitions.empty() && !kind.empty() &&
      std::none_of(kinds.begin(), kinds.end(), [&](const std::string& k) { return k.starts_with(kind); }))
    problems.push_back(fmt::format("srun does not offer --mpi={}: change launcher in the site file", kind));
  fmt::print("{:<20} {}\n", "largest array", slurm::max_array_size());
  const std::string nodes =
      job.most_nodes > job.nodes ? fmt::format("{} to {}", job.nodes, job.most_nodes) : std::to_string(job.nodes);
  fmt::print("{:<20} nodes: {}, of each: tasks {}, cores of a task {}{}; time {}\n", "a job asks for", nodes,
             job.tasks_per_node, job.cpus_per_task,
             job.gpus_per_node > 0 ? fmt::format(", GPUs {}", job.gpus_per_node) : "", job.time);
  // Accounts, qualities of service, memory and the limits of users: Slurm itself knows them best.
  if (problems.empty()) {
    const std::string refusal = refusal_of(job_script_text(options));
    if (!refusal.empty()) problems.push_back("sbatch would refuse the job: " + refusal);
  }
  for (const std::string& problem : problems) fmt::print("problem: {}\n", problem);
  if (!problems.empty()) {
    fail(ExitCode::distributed, "what a job asks for is not what this cluster offers, see above: mend {}",
         options.job.site.empty() ? "the site file (--site, MOEXTRACT_SITE) or the options"
                                  : options.job.site.string() + " or the options");
  }
  fmt::print("{} can be submitted.\n",
             options.config.empty() ? "A job as the site file and the options describe it" : options.config.string());
}

}  // namespace moextract::app
