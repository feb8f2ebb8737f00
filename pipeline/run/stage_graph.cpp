#include "run/stage_graph.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "run/artefact_lock.h"
#include "run/progress.h"
#include "run/store_survey.h"

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

std::optional<double> StageGraph::find(const StageNode& node, Context& context) const {
  comm::Communicator& comm = context.comm;
  double seconds = -1;
  comm.together([&] {
    if (!comm.is_root()) return;
    std::string why;
    const ArtefactState state = store_.state(node.spec, &why);
    if (state == ArtefactState::done) {
      const nlohmann::json manifest = store_.manifest(node.spec);
      if (node.accept) node.accept(manifest.value("counts", nlohmann::json::object()), store_.folder(node.spec));
      seconds = manifest.value("seconds", 0.0);
    }
    if (state == ArtefactState::damaged) {
      context.log->warn("{}: {} is damaged ({}); the stage is run again", node.id, store_.folder(node.spec).string(),
                        why);
    }
  });
  comm.broadcast(std::span<double>(&seconds, 1));
  return seconds < 0 ? std::nullopt : std::optional(seconds);
}

std::vector<StageOutcome> StageGraph::execute(const std::vector<std::string>& wanted, Context& context,
                                              const std::string& program_version) const {
  comm::Communicator& comm = context.comm;
  const std::vector<std::string> all_hosts = comm.all_gather_text(host_name());
  const std::set<std::string> hosts(all_hosts.begin(), all_hosts.end());
  std::vector<StageOutcome> outcomes;
  for (const std::size_t index : closure(wanted)) {
    const StageNode& node = nodes_[index];
    if (std::optional<double> seconds = find(node, context)) {
      if (comm.is_root()) ArtefactLock::clear_away(lock_path(store_.folder(node.spec)));
      context.log->info("{}: already there ({})", node.id, store_.folder(node.spec).string());
      outcomes.push_back({node.id, true, *seconds});
      continue;
    }
    if (comm.all_reduce_value<std::int32_t>(context.should_stop() ? 1 : 0, comm::Reduction::max) > 0) {
      fail(ExitCode::resume,
           "asked to stop before stage {}; finished stages are kept. Run the same command again to go on", node.id);
    }
    std::unique_ptr<ArtefactLock> lock;
    comm.together([&] {
      if (!comm.is_root()) return;
      make_folder(store_.root());
      lock = std::make_unique<ArtefactLock>(lock_path(store_.folder(node.spec)), *context.log,
                                            [&] { return !context.should_stop(); });
    });
    // Somebody else may have made it while this run waited for the lock.
    if (std::optional<double> seconds = find(node, context)) {
      context.log->info("{}: made by another process meanwhile ({})", node.id, store_.folder(node.spec).string());
      outcomes.push_back({node.id, true, *seconds});
      continue;
    }
    comm.together([&] {
      if (comm.is_root()) store_.begin(node.spec);
    });
    context.log->info("{}: begins, into {}", node.id, store_.folder(node.spec).string());
    const auto start = std::chrono::steady_clock::now();
    Provenance provenance;
    comm.guard([&] { provenance.counts = node.run(context, store_.folder(node.spec)); });
    provenance.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    provenance.program_version = program_version;
    provenance.ranks = comm.size();
    provenance.threads = context.workers.size();
    provenance.device = name_of(context.device.kind);
    provenance.hosts.assign(hosts.begin(), hosts.end());
    comm.together([&] {
      if (!comm.is_root()) return;
      if (!lock->held()) {
        fail(ExitCode::conflict,
             "{}: another process has taken over this artefact, because this one gave no sign of life for too long. "
             "Run the same command again to wait for it",
             store_.folder(node.spec).string());
      }
      store_.finish(node.spec, provenance);
    });
    context.log->info("{}: done in {}", node.id, duration_text(provenance.seconds));
    outcomes.push_back({node.id, false, provenance.seconds});
  }
  return outcomes;
}

}  // namespace moextract::run
