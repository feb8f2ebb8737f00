#include "run/stage_graph.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "core/error.h"
#include "run/progress.h"
#include "run/stop.h"

namespace moextract::run {
namespace {

std::string host_name() {
  char name[256] = "unknown";
  gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

void StageGraph::add(StageNode node) {
  for (const std::string& need : node.needs) static_cast<void>(this->node(need));
  nodes_.push_back(std::move(node));
}

const StageNode& StageGraph::node(const std::string& id) const {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const StageNode& n) { return n.id == id; });
  MOEX_ASSERT(found != nodes_.end(), "no stage of the name " + id);
  return *found;
}

std::vector<std::size_t> StageGraph::closure(const std::vector<std::string>& wanted) const {
  std::set<std::string> names(wanted.begin(), wanted.end());
  std::vector<std::size_t> order;
  for (std::size_t i = nodes_.size(); i-- > 0;) {
    if (!names.contains(nodes_[i].id)) continue;
    order.push_back(i);
    names.insert(nodes_[i].needs.begin(), nodes_[i].needs.end());
  }
  std::reverse(order.begin(), order.end());
  return order;
}

std::vector<StageOutcome> StageGraph::execute(const std::vector<std::string>& wanted, Context& context,
                                              const std::string& program_version) const {
  comm::Communicator& comm = context.comm;
  const std::vector<std::string> all_hosts = comm.all_gather_text(host_name());
  const std::set<std::string> hosts(all_hosts.begin(), all_hosts.end());
  std::vector<StageOutcome> outcomes;
  for (const std::size_t index : closure(wanted)) {
    const StageNode& node = nodes_[index];
    std::int32_t done = 0;
    comm.together([&] {
      if (!comm.is_root()) return;
      std::string why;
      const ArtefactState state = store_.state(node.spec, &why);
      done = state == ArtefactState::done ? 1 : 0;
      if (state == ArtefactState::damaged) {
        context.log->warn("{}: {} is damaged ({}); the stage is run again", node.id, store_.folder(node.spec).string(),
                          why);
      }
      if (!done) store_.begin(node.spec);
    });
    comm.broadcast(std::span<std::int32_t>(&done, 1));
    if (done) {
      const double seconds = comm.is_root() ? store_.manifest(node.spec).value("seconds", 0.0) : 0.0;
      context.log->info("{}: already there ({})", node.id, store_.folder(node.spec).string());
      outcomes.push_back({node.id, true, seconds});
      continue;
    }
    if (comm.all_reduce_value<std::int32_t>(stop_requested() ? 1 : 0, comm::Reduction::max) > 0) {
      fail(ExitCode::resume,
           "asked to stop before stage {}; finished stages are kept. Run the same command again to go on", node.id);
    }
    context.log->info("{}: begins, into {}", node.id, store_.folder(node.spec).string());
    const auto start = std::chrono::steady_clock::now();
    Provenance provenance;
    comm.together([&] { provenance.counts = node.run(context, store_.folder(node.spec)); });
    provenance.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    provenance.program_version = program_version;
    provenance.ranks = comm.size();
    provenance.threads = context.workers.size();
    provenance.hosts.assign(hosts.begin(), hosts.end());
    comm.together([&] {
      if (comm.is_root()) store_.finish(node.spec, provenance);
    });
    context.log->info("{}: done in {}", node.id, duration_text(provenance.seconds));
    outcomes.push_back({node.id, false, provenance.seconds});
  }
  return outcomes;
}

}  // namespace moextract::run
