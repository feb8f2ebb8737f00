// lock_probe FILE SECONDS: takes the lock, says so, holds it, releases it.
#include <spdlog/logger.h>

#include <cstdio>
#include <cstdlib>

#include "run/artefact_lock.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  spdlog::logger log("probe");
  const moextract::run::ArtefactLock lock(argv[1], log, [] { return true; }, {.beat = 0.1, .stale = 1, .look = 0.02});
  std::puts("held");
  std::fflush(stdout);
  std::this_thread::sleep_for(std::chrono::duration<double>(std::atof(argv[2])));
  return lock.held() ? 0 : 1;
}
