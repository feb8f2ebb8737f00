// What the launcher (mpirun, srun) says about the job, read from the environment before MPI is started.
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "comm/backends.h"

namespace moextract::comm {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

/// A whole number >= 0, or -1 if the variable is unset or something else.
std::int64_t number_in(const char* name) {
  const std::string_view text = variable(name);
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

/// Tasks of the Slurm step this process is part of, 0 outside of one. The batch script and the shell of `salloc` are
/// steps of their own with reserved numbers at the top of the range; SLURM_NTASKS there is what was asked for, not what
/// runs.
int slurm_step_tasks() {
  constexpr std::int64_t kFirstReservedStep = 0xfffffff0;
  const std::int64_t step = number_in("SLURM_STEP_ID");
  if (step < 0 || step >= kFirstReservedStep) return 0;
  const std::int64_t of_step = number_in("SLURM_STEP_NUM_TASKS");
  const std::int64_t tasks = of_step > 0 ? of_step : number_in("SLURM_NTASKS");
  return tasks > 0 ? static_cast<int>(tasks) : 0;
}

}  // namespace

int launched_tasks() {
  // mpirun starts its daemons with srun, so a rank of mpirun sees the Slurm step of the daemons: Slurm is asked last.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const std::int64_t tasks = number_in(name); tasks > 0) return static_cast<int>(tasks);
  }
  return slurm_step_tasks();
}

bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"}) {
    if (!variable(name).empty()) return true;
  }
  // A step of one task may well be the shell of `srun --pty bash`, in which one wants to work without MPI.
  return slurm_step_tasks() > 1;
}

void check_launch(const Communicator& world) {
  const int tasks = launched_tasks();
  if (tasks == 0 || tasks == world.size()) return;
  const std::string cause =
      world.size() == 1 ? "every process thinks it is rank 0 of 1 and would do all the work" : "the counts must agree";
  fail(ExitCode::distributed,
       "the launcher started {} tasks, but this process sees {} rank{}: {}. Launcher and MPI library do not fit "
       "together. "
       "With Slurm start it by 'srun --mpi=pmix' ('srun --mpi=list' shows what this Slurm offers), else by the mpirun "
       "that "
       "belongs to the MPI library in use ({}).",
       tasks, world.size(), world.size() == 1 ? "" : "s", cause, MpiSession::version());
}

}  // namespace moextract::comm
