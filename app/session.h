// The ranks of this process and the threads of this rank.
#pragma once

#include <memory>

#include "comm/backends.h"
#include "comm/communicator.h"

namespace moextract::app {

/// Starts MPI where a launcher asks for it, otherwise stays alone. One object, made in main().
class Session {
 public:
  /// Throws UserError (distributed) if the launcher started several processes that do not know of each other.
  Session(int& argc, char**& argv);
  comm::Communicator& comm() { return *comm_; }

 private:
  std::unique_ptr<comm::MpiSession> mpi_;
  std::unique_ptr<comm::Communicator> comm_;
};

/// Collective. Threads for this rank if the configuration does not say: its fair share of the processors it may run on,
/// each processor divided among the ranks of this node that may run on it; at least 1.
int fair_threads(comm::Communicator& comm);

}  // namespace moextract::app
