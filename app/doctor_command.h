// moextract doctor: versions of what the program stands on, and what the launcher made of the job.
#pragma once

#include "comm/communicator.h"

namespace moextract::app {

/// Collective. Prints on rank 0: versions, tasks against ranks, a table of ranks (host, process, cores, threads, GPU).
void doctor_command(comm::Communicator& comm);

}  // namespace moextract::app
