#include "app/session.h"

#include <sched.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace moextract::app {

Session::Session(int& argc, char**& argv) {
  if (comm::launched_by_mpi()) {
    mpi_ = std::make_unique<comm::MpiSession>(argc, argv);
    comm_ = mpi_->world();
  } else {
    comm_ = comm::make_self();
  }
  comm::check_launch(*comm_);
}

int fair_threads(comm::Communicator& comm) {
  const std::unique_ptr<comm::Communicator> node = comm.split_by_node();
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) CPU_SET(0, &mine);
  std::vector<std::int32_t> users(CPU_SETSIZE, 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) users[static_cast<std::size_t>(cpu)] = CPU_ISSET(cpu, &mine) ? 1 : 0;
  node->all_reduce(std::span<std::int32_t>(users), comm::Reduction::sum);
  double share = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mine)) share += 1.0 / users[static_cast<std::size_t>(cpu)];
  }
  return std::max(1, static_cast<int>(std::floor(share + 1e-6)));
}

}  // namespace moextract::app
