#include "app/environment.h"

#include <fmt/format.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

#include "app/gpu_facts.h"
#include "comm/backends.h"
#include "core/error.h"
#include "core/workers.h"
#include "store/versions.h"

namespace moextract::app {
namespace {

std::string host_name() {
  char name[256] = "unknown";
  gethostname(name, sizeof(name) - 1);
  return name;
}

/// One line for each, as "name\tversion": gathered as one text.
std::string pack(const std::vector<std::pair<std::string, std::string>>& versions) {
  std::string text;
  for (const auto& [name, version] : versions) text += name + "\t" + version + "\n";
  return text;
}

std::vector<std::pair<std::string, std::string>> versions_here() {
  return {{"moextract", MOEXTRACT_VERSION},     {"compiler", __VERSION__},       {"LibTorch", TORCH_VERSION},
          {"MPI", comm::MpiSession::version()}, {"HDF5", store::hdf5_version()}, {"NCCL", nccl_text()}};
}

std::string pack(const RankPlace& place) {
  return fmt::format("{}\n{} {} {}\n{}\n{}", place.host, place.process, place.cores, place.threads, place.gpu,
                     place.device);
}

RankPlace unpack_place(const std::string& text) {
  std::istringstream lines(text);
  RankPlace place;
  std::getline(lines, place.host);
  lines >> place.process >> place.cores >> place.threads;
  MOEX_ASSERT(!lines.fail(), "a rank sent no place: " + text);
  lines.ignore();
  std::getline(lines, place.gpu);
  std::getline(lines, place.device);
  return place;
}

}  // namespace

int Environment::hosts() const {
  std::set<std::string> names;
  for (const RankPlace& rank : ranks) names.insert(rank.host);
  return static_cast<int>(names.size());
}

bool Environment::has_more_ranks_than_cores() const {
  int threads = 0;
  for (const RankPlace& rank : ranks) threads += rank.threads;
  return !ranks.empty() && threads > ranks.front().cores * hosts();
}

std::vector<std::string> Environment::table() const {
  std::vector<std::string> lines{fmt::format("{:>4}  {:<24} {:>8} {:>6} {:>8}  {:<12}  {}", "rank", "host", "process",
                                             "cores", "threads", "computes on", "GPU")};
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const RankPlace& rank = ranks[r];
    lines.push_back(fmt::format("{:>4}  {:<24} {:>8} {:>6} {:>8}  {:<12}  {}", r, rank.host, rank.process, rank.cores,
                                rank.threads, rank.device, rank.gpu));
  }
  return lines;
}

std::string Environment::version_line() const {
  std::string line;
  for (const auto& [name, version] : versions) line += (line.empty() ? "" : "; ") + name + " " + version;
  return line;
}

void check_versions(const std::vector<std::string>& versions, const std::vector<RankPlace>& ranks) {
  for (std::size_t r = 1; r < versions.size(); ++r) {
    if (versions[r] == versions[0]) continue;
    std::istringstream ours(versions[0]), its(versions[r]);
    std::string here, there;
    while (std::getline(ours, here) && std::getline(its, there) && here == there) {
    }
    std::replace(here.begin(), here.end(), '\t', ' ');
    std::replace(there.begin(), there.end(), '\t', ' ');
    fail(ExitCode::distributed,
         "rank 0 on {} runs with {}, but rank {} on {} with {}: start the same program everywhere, and load the same "
         "modules on all hosts before the launcher starts it",
         ranks[0].host, here, r, ranks[r].host, there);
  }
}

Environment survey_environment(comm::Communicator& comm, int threads, const Device& device) {
  Environment environment;
  environment.versions = versions_here();
  environment.tasks = comm::launched_tasks();
  environment.transport = comm.name();
  const std::unique_ptr<comm::Communicator> node = comm.split_by_node();
  const RankPlace mine{.host = host_name(),
                       .process = getpid(),
                       .cores = usable_cores(),
                       .threads = threads,
                       .gpu = gpu_text(node->rank(), node->size()),
                       .device = device.text()};
  for (const std::string& text : comm.all_gather_text(pack(mine))) environment.ranks.push_back(unpack_place(text));
  // All ranks have the same lists, so all throw or none does.
  check_versions(comm.all_gather_text(pack(environment.versions)), environment.ranks);
  return environment;
}

}  // namespace moextract::app
