#include "app/doctor_command.h"

#include <fmt/format.h>

#include "app/environment.h"
#include "app/session.h"
#include "stages/device_choice.h"

namespace moextract::app {
namespace {

void line(const std::string& name, const std::string& value) {
  fmt::print("{:<18} {}\n", name, value);
}

}  // namespace

void doctor_command(comm::Communicator& comm) {
  const Environment environment =
      survey_environment(comm, fair_threads(comm), stages::settle_device(stages::DeviceChoice::automatic, comm));
  if (!comm.is_root()) return;
  for (const auto& [name, version] : environment.versions) line(name, version);
  line("launcher", environment.tasks == 0 ? "none: one process" : fmt::format("{} tasks", environment.tasks));
  // A session whose tasks and ranks disagree has ended with the fix in its message before it came here.
  const int hosts = environment.hosts();
  line("ranks", fmt::format("{} on {} host{} ({})", comm.size(), hosts, hosts == 1 ? "" : "s", environment.transport));
  fmt::print("\n");
  for (const std::string& row : environment.table()) fmt::print("{}\n", row);
  if (environment.has_more_ranks_than_cores()) {
    fmt::print("\nThere are more ranks than cores: ranks wait for each other. Start fewer, or ask for more cores.\n");
  }
}

}  // namespace moextract::app
