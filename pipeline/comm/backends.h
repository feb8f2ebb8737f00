// How a communicator comes to be.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace moextract::comm {

/// One rank; every collective is a copy or nothing.
std::unique_ptr<Communicator> make_self();

/// Runs `body` on `ranks` threads of this process, each with a communicator of its own, and returns when all have ended.
/// If a body throws, ranks waiting in a collective are woken with RemoteFailure; the lowest failing rank's own exception
/// is rethrown here.
void run_threads(int ranks, const std::function<void(Communicator&)>& body);

/// The MPI library's life: started when made, finalised when destroyed, unless an exception is under way: finalising would
/// wait for ranks that are not coming. Then the caller ends the job, best by Communicator::abort where the exception is
/// caught inside the session's life; a process that just exits non-zero makes mpirun (and srun --kill-on-bad-exit) end the
/// other ranks too. Make one in main().
class MpiSession {
 public:
  /// Starts MPI with MPI_THREAD_FUNNELED or better. Throws UserError (distributed) if the level is not granted.
  MpiSession(int& argc, char**& argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  /// Collective. A duplicate of MPI_COMM_WORLD, freed with the object.
  std::unique_ptr<Communicator> world();
  /// Library name and version, one line.
  static std::string version();
};

/// Whether this process was started by a launcher that made more than one MPI rank possible (mpirun, srun): only then is
/// it worth starting MPI at all.
bool launched_by_mpi();

/// Ranks that the launcher says it started (OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS with a step), or 0 if none does.
int launched_tasks();

/// Compares launched_tasks() with the communicator's size. Throws UserError (distributed) with the fix in the message if
/// every process thinks that it is alone ("every process thinks it is rank 0").
void check_launch(const Communicator& world);

}  // namespace moextract::comm
