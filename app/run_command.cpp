#include "app/run_command.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include <optional>

#include "app/session.h"
#include "core/workers.h"
#include "run/log.h"
#include "run/progress.h"
#include "run/run_folder.h"
#include "run/stop.h"
#include "stages/pipeline.h"
#include "stages/report/report.h"

namespace moextract::app {
namespace fs = std::filesystem;
namespace {

/// runs/<name>, with the settings of the command line in its name: other settings are another run.
fs::path run_folder(const stages::RunConfig& config, const RunOptions& options) {
  if (!config.run.folder.empty()) return config.run.folder;
  std::string name = config.run.name;
  for (const std::string& setting : options.settings) {
    if (setting.starts_with("run.")) continue;
    std::string safe = setting;
    for (char& c : safe) c = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '=' || c == '-' ? c : '_';
    name += "+" + safe.substr(0, 60);
  }
  return fs::path("runs") / name;
}

std::string state_text(run::ArtefactState state) {
  switch (state) {
    case run::ArtefactState::absent:
      return "to do";
    case run::ArtefactState::begun:
      return "begun";
    case run::ArtefactState::done:
      return "done";
    case run::ArtefactState::damaged:
      return "damaged, to do again";
  }
  return "?";
}

void print_plan(const stages::Pipeline& pipeline, const std::vector<std::string>& wanted, const fs::path& folder,
                int ranks, int threads) {
  fmt::print("model {}, {} ranks of {} threads, run folder {}\n", pipeline.description().name, ranks, threads,
             folder.string());
  for (const run::StageNode& node : pipeline.graph().nodes()) {
    const bool asked = std::find(wanted.begin(), wanted.end(), node.id) != wanted.end();
    fmt::print("{:<28} {:<8} {}{}\n", node.id, state_text(pipeline.graph().state(node.id)), node.plan,
               asked ? "" : " (only if needed)");
    fmt::print("{:<28} {:<8} {}\n", "", "", pipeline.graph().folder(node.id).string());
  }
}

nlohmann::json stage_folders(const run::StageGraph& graph) {
  nlohmann::json folders = nlohmann::json::object();
  for (const run::StageNode& node : graph.nodes()) folders[node.id] = graph.folder(node.id).string();
  return folders;
}

/// Reading the configuration, the image sets and the weights' header: on every rank the same, or on none.
struct Prepared {
  stages::RunConfig config;
  std::optional<stages::Pipeline> pipeline;
  std::vector<std::string> wanted;
  fs::path folder;
};

void prepare(const RunOptions& options, Prepared& prepared) {
  stages::read_config(options.config, options.settings, prepared.config);
  prepared.pipeline.emplace(prepared.config);
  prepared.folder = run_folder(prepared.config, options);
  if (options.stage != "report") prepared.wanted = prepared.pipeline->nodes_of(options.stage);
}

}  // namespace

void run_command(const RunOptions& options, comm::Communicator& comm) {
  const auto log = run::make_logger(comm.rank(), comm.size(), options.verbose);
  Prepared prepared;
  comm.together([&] { prepare(options, prepared); });
  const stages::Pipeline& pipeline = *prepared.pipeline;
  const int threads = prepared.config.run.threads > 0 ? prepared.config.run.threads : fair_threads(comm);
  if (options.dry_run) {
    if (comm.is_root()) print_plan(pipeline, prepared.wanted, prepared.folder, comm.size(), threads);
    return;
  }
  comm.together([&] {
    if (comm.is_root()) run::claim_run_folder(prepared.folder, pipeline.identity());
  });
  run::install_stop_handlers();
  // A unit of work is one thread's: its kernels stay single-threaded, which makes results independent of the thread
  // count.
  Workers workers(threads, [] { at::set_num_threads(1); });
  run::Context context{comm, workers, log};
  log->info("{}: {} ranks of {} threads", options.stage, comm.size(), threads);
  stages::ReportFacts facts{.program_version = MOEXTRACT_VERSION,
                            .ranks = comm.size(),
                            .threads_per_rank = threads,
                            .hosts = {},
                            .outcomes = {}};
  if (options.stage != "report") facts.outcomes = pipeline.graph().execute(prepared.wanted, context, MOEXTRACT_VERSION);
  comm.together([&] {
    if (!comm.is_root()) return;
    run::write_run_record(prepared.folder, pipeline.identity(), stage_folders(pipeline.graph()));
    const bool all_there = !facts.outcomes.empty() && std::all_of(facts.outcomes.begin(), facts.outcomes.end(),
                                                                  [](const run::StageOutcome& o) { return o.reused; });
    if (all_there) fmt::print("All stages were already done.\n");
    if (options.stage == "run" || options.stage == "report") {
      const std::string table = stages::write_report(pipeline, facts, prepared.folder);
      fmt::print("{}\nReport: {}\n", table, fs::absolute(prepared.folder / "report.html").lexically_normal().string());
    } else {
      for (const std::string& id : prepared.wanted) fmt::print("{}: {}\n", id, pipeline.graph().folder(id).string());
    }
  });
}

bool verify_command(const RunOptions& options) {
  Prepared prepared;
  prepare(options, prepared);
  bool well = true;
  for (const run::StageNode& node : prepared.pipeline->graph().nodes()) {
    const fs::path folder = prepared.pipeline->graph().folder(node.id);
    const run::ArtefactState state = prepared.pipeline->graph().state(node.id);
    if (state == run::ArtefactState::absent || state == run::ArtefactState::begun) {
      fmt::print("{}: {}\n", node.id, state_text(state));
      continue;
    }
    const std::vector<std::string> wrong = run::ArtefactStore::verify(folder);
    fmt::print("{}: {}\n", node.id, wrong.empty() ? "ok" : "BROKEN");
    for (const std::string& line : wrong) fmt::print("    {}: {}\n", folder.string(), line);
    if (!wrong.empty())
      fmt::print("    delete the folder and run again: only this stage and what depends on it are made\n");
    well = well && wrong.empty();
  }
  return well;
}

}  // namespace moextract::app
