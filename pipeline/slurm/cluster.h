// What Slurm says: jobs in the queue, partitions, limits. Everything goes through Slurm's own programs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moextract::slurm {

struct QueuedJob {
  std::string id;  ///< "12", or "12_3" of an array
  std::string state, reason, nodes, elapsed, limit;
};

struct Partition {
  std::string name;
  bool is_default = false;
  std::int64_t nodes = 0, cpus_per_node = 0, seconds = -1;  ///< time limit; -1: none
  std::string gpus;                                         ///< generic resources, as Slurm writes them
};

/// Throws UserError (distributed) that says what to do where this machine has no Slurm programs.
void need_slurm();

/// Submits a script; returns the job's number. Throws UserError (distributed) with sbatch's own words, and the
/// partitions there are where it did not know the one given.
std::string submit(const std::filesystem::path& script);
/// What sbatch would refuse a script for, without submitting it; empty if it would take it.
std::string refusal(const std::filesystem::path& script);
/// Those of `ids` that are queued or running. None of them, if Slurm does not know them any more. Throws UserError
/// (distributed) if it does not answer.
std::vector<QueuedJob> queue(const std::vector<std::string>& ids);
/// Throws UserError (distributed).
void cancel(const std::string& id);
/// SIGUSR2 to the job's ranks, which then save and leave. False: the job has no ranks (yet).
bool ask_to_save(const std::string& id);

/// Empty if Slurm does not answer.
std::vector<Partition> partitions();
/// Largest number of elements of an array; 1001 where Slurm does not say.
std::int64_t max_array_size();
/// Kinds of process management that srun offers ("pmix", "pmi2").
std::vector<std::string> mpi_kinds();
/// "2-03:00:00", "04:00:00", "30:00", "infinite" in seconds; -1: no limit or not understood.
std::int64_t seconds_of(const std::string& time);

}  // namespace moextract::slurm
