// A program that ends badly on one rank, for abort_test.sh: abort_probe MODE.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "comm/backends.h"

using namespace moextract;

int main(int argc, char** argv) {
  try {
    comm::MpiSession session(argc, argv);
    const std::string mode = argc == 2 ? argv[1] : "";
    const std::unique_ptr<comm::Communicator> world = session.world();
    const std::unique_ptr<comm::Communicator> node = world->split_by_node();
    const bool bad = world->rank() == world->size() - 1;
    world->barrier();
    std::jthread watchdog;
    if (mode == "rank" && bad) world->abort(ExitCode::numerics);
    if (mode == "node" && bad) node->abort(ExitCode::numerics);
    if (mode == "throw" && bad) fail(ExitCode::storage, "disk full");
    if (mode == "watchdog" && bad) {
      // The main thread hangs in a collective that not all ranks reach, as it would if one was stopped.
      watchdog = std::jthread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        world->abort(ExitCode::distributed);
      });
    }
    if (mode == "watchdog" && world->rank() == 0) std::this_thread::sleep_for(std::chrono::hours(1));
    if (mode != "none") world->barrier();
  } catch (const UserError& error) {
    std::fprintf(stderr, "caught outside of the session: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
