// Stages as a graph, and the one way of running them.
#pragma once

#include <spdlog/logger.h>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/device.h"
#include "core/workers.h"
#include "run/artefact.h"
#include "run/stop.h"

namespace moextract::run {

/// What every stage gets to work with.
struct Context {
  comm::Communicator& comm;
  Workers& workers;
  std::shared_ptr<spdlog::logger> log;
  /// Whether this rank was asked to stop. Stages look where they can save; ranks agree before they act on it.
  std::function<bool()> should_stop = stop_requested;
  Device device = {};  ///< of this rank; the same kind on all ranks
};

/// One stage of a run. `run` is collective: called on every rank, with the artefact's folder; it returns what it
/// counted (rank 0's is recorded). It runs inside of Communicator::guard().
struct StageNode {
  std::string id;  ///< "collect", "assemble/experts"
  ArtefactSpec spec;
  std::vector<std::string> needs;  ///< ids of nodes whose artefacts it reads; they come earlier in the graph
  std::string plan;                ///< for --dry-run: what it reads and writes, bytes, memory
  std::function<nlohmann::json(Context&, const std::filesystem::path& folder)> run;
  /// Optional. Asked on rank 0 about a finished artefact and what it counted: throws UserError if settings that are no
  /// part of its address do not allow it any more.
  std::function<void(const nlohmann::json& counts, const std::filesystem::path& folder)> accept = {};
};

struct StageOutcome {
  std::string id;
  bool reused = false;  ///< found finished
  double seconds = 0;   ///< of making it, also when that was earlier
};

class StageGraph {
 public:
  explicit StageGraph(std::filesystem::path store) : store_(std::move(store)) {}

  /// Nodes are added in an order in which they can run.
  void add(StageNode node);
  const std::vector<StageNode>& nodes() const { return nodes_; }
  const StageNode& node(const std::string& id) const;
  std::filesystem::path folder(const std::string& id) const { return store_.folder(node(id).spec); }
  ArtefactState state(const std::string& id, std::string* why = nullptr) const {
    return store_.state(node(id).spec, why);
  }
  const ArtefactStore& store() const { return store_; }
  nlohmann::json manifest(const std::string& id) const { return store_.manifest(node(id).spec); }

  /// Collective. Makes what is not there of the nodes named and of all that they need. Rank 0 decides what is there, so
  /// that ranks cannot disagree; it holds the artefact's lock while a stage runs. An error leaves all finished
  /// artefacts, and what a stage finished of its own, in place.
  std::vector<StageOutcome> execute(const std::vector<std::string>& wanted, Context& context,
                                    const std::string& program_version) const;

 private:
  /// Collective. Seconds that a finished artefact took, or nothing if it is not there.
  std::optional<double> find(const StageNode& node, Context& context) const;
  std::vector<std::size_t> closure(const std::vector<std::string>& wanted) const;
  ArtefactStore store_;
  std::vector<StageNode> nodes_;
};

}  // namespace moextract::run
