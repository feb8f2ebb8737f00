#include "app/doctor_command.h"

#include <fmt/format.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>

#include "app/session.h"
#include "comm/backends.h"
#include "core/workers.h"

namespace moextract::app {
namespace {

std::string host_name() {
  char name[256] = "unknown";
  gethostname(name, sizeof(name) - 1);
  return name;
}

void line(const char* name, const std::string& value) {
  fmt::print("{:<18} {}\n", name, value);
}

}  // namespace

void doctor_command(comm::Communicator& comm) {
  const int cores = usable_cores(), threads = fair_threads(comm);
  const std::vector<std::string> rows = comm.all_gather_text(
      fmt::format("{:>4}  {:<24} {:>8} {:>6} {:>8}", comm.rank(), host_name(), getpid(), cores, threads));
  std::vector<std::string> hosts = comm.all_gather_text(host_name());
  if (!comm.is_root()) return;
  std::sort(hosts.begin(), hosts.end());
  const auto host_count = std::unique(hosts.begin(), hosts.end()) - hosts.begin();
  line("moextract", MOEXTRACT_VERSION);
  line("compiler", __VERSION__);
  line("LibTorch", TORCH_VERSION);
  line("MPI", comm::MpiSession::version());
  line("HDF5", MOEXTRACT_HDF5_VERSION);
  line("NCCL", MOEXTRACT_NCCL);
  const int tasks = comm::launched_tasks();
  line("launcher", tasks == 0 ? "none: one process" : fmt::format("{} tasks", tasks));
  // A session whose tasks and ranks disagree has ended with the fix in its message before it came here.
  line("ranks", fmt::format("{} on {} host{} ({})", comm.size(), host_count, host_count == 1 ? "" : "s", comm.name()));
  fmt::print("\n{:>4}  {:<24} {:>8} {:>6} {:>8}\n", "rank", "host", "process", "cores", "threads");
  for (const std::string& row : rows) fmt::print("{}\n", row);
  if (threads * comm.size() > cores * static_cast<int>(host_count)) {
    fmt::print("\nThere are more ranks than cores: ranks wait for each other. Start fewer, or ask for more cores.\n");
  }
}

}  // namespace moextract::app
