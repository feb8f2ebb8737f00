// What the typed suite of the collectives runs on: each test program says which back ends it can offer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace moextract::comm {

using Body = std::function<void(Communicator&)>;

struct Backend {
  std::string name;                           ///< as Communicator::name()
  int ranks;                                  ///< with so many ranks
  std::function<void(const Body&)> on_ranks;  ///< runs the body on each rank; in a program under MPI, on this process's
};

/// local_backends.cpp: self, and threads at 1, 2, 3, 4, 7 ranks; mpi_backend.cpp: mpi with the ranks of the launcher.
std::vector<Backend> backends();

/// Runs `body` on all back ends, each with the piece sizes of production and with pieces of a few bytes. Failures in
/// the body name back end and rank.
void on_every_backend(const Body& body);

}  // namespace moextract::comm
