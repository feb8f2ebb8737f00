#include "app/run_command.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <set>

#include "app/environment.h"
#include "app/gpu_facts.h"
#include "app/session.h"
#include "app/store_commands.h"
#include "comm/watched.h"
#include "core/error.h"
#include "core/workers.h"
#include "model/device.h"
#include "run/artefact_lock.h"
#include "run/explain.h"
#include "run/log.h"
#include "run/progress.h"
#include "run/run_folder.h"
#include "run/stop.h"
#include "run/store_survey.h"
#include "stages/collect/collect_plan.h"
#include "stages/pipeline.h"
#include "stages/report/report.h"

namespace moextract::app {
namespace fs = std::filesystem;
namespace {

std::string ranks_text(std::int64_t ranks, std::int64_t threads) {
  return fmt::format("{} rank{} of {} thread{}", ranks, ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s");
}

void print_plan(const stages::Pipeline& pipeline, const std::vector<std::string>& wanted, const fs::path& folder,
                int ranks, int threads, const Device& device) {
  fmt::print("model {}, {} on {}, run folder {}\n", pipeline.description().name, ranks_text(ranks, threads),
             device.text(), folder.string());
  for (const run::StageNode& node : pipeline.graph().nodes()) {
    const bool asked = std::find(wanted.begin(), wanted.end(), node.id) != wanted.end();
    fmt::print("{:<28} {:<8} {}{}\n", node.id, artefact_state_text(pipeline.graph().state(node.id)), node.plan,
               asked ? "" : " (only if needed)");
    fmt::print("{:<28} {:<8} {}\n", "", "", pipeline.graph().folder(node.id).string());
  }
}

std::string plan_bytes(double bytes) {
  return bytes < 1e9 ? fmt::format("{:.1f} MB", bytes / 1e6) : fmt::format("{:.1f} GB", bytes / 1e9);
}

/// Images a second of one rank that made so many in a finished artefact.
double measured_rate(const nlohmann::json& manifest, double images) {
  return images / std::max(1e-9, manifest.value("seconds", 0.0)) /
         static_cast<double>(std::max<std::int64_t>(1, manifest.value("ranks", std::int64_t{1})));
}

/// What collect takes, for any number of images and ranks and a rate that was measured elsewhere.
void print_collect_plan(const RunOptions& options, const stages::Pipeline& pipeline, int ranks, int threads) {
  const data::ImageSet* images = pipeline.images("calibration");
  if (images == nullptr) return;
  stages::CollectScale scale{.images = options.plan_images > 0 ? options.plan_images : images->size(),
                             .ranks = options.plan_ranks > 0 ? options.plan_ranks : ranks,
                             .threads = threads,
                             .rank_rate = {},
                             .image_bytes = images->mean_stored_bytes()};
  std::string source = "--rate";
  if (options.plan_rate > 0) {
    scale.rank_rate = options.plan_rate;
  } else if (pipeline.graph().state("collect") == run::ArtefactState::done) {
    const nlohmann::json manifest = pipeline.graph().manifest("collect");
    // Of what the last start of collect made itself.
    const nlohmann::json counts = manifest["counts"];
    const double found = counts.value("shards_found", 0.0) / std::max(1.0, counts.value("shards", 0.0));
    if (found < 1) scale.rank_rate = measured_rate(manifest, counts.value("images", 0.0) * (1.0 - found));
    source = "as the finished collect made";
  }
  const stages::RunConfig& config = pipeline.config();
  const stages::CollectPlan plan =
      stages::plan_collect(config.collect, pipeline.description(), config.model.micro_batch, scale);
  fmt::print("\ncollect, {} images on {}:\n", scale.images, ranks_text(scale.ranks, scale.threads));
  fmt::print("  writes    {} in {} files of {} each: {} rows of each layer and tap\n", plan_bytes(plan.bytes),
             plan.files, plan_bytes(plan.bytes / static_cast<double>(std::max<std::int64_t>(plan.files, 1))),
             plan.rows);
  if (plan.seconds) {
    fmt::print("  time      {}: the busiest rank has {} images, at {:.1f} a second ({})\n",
               run::duration_text(*plan.seconds), plan.rank_images, *scale.rank_rate, source);
  } else {
    fmt::print(
        "  time      unknown: the busiest rank has {} images; give --rate, the images a second of one rank that a "
        "small run says\n",
        plan.rank_images);
  }
  fmt::print(
      "  memory    {} a rank, besides the program: weights {}, micro-batches underway {}, forward pass about {}, "
      "chunks "
      "{}\n",
      plan_bytes(plan.memory()), plan_bytes(plan.weights), plan_bytes(plan.underway), plan_bytes(plan.activations),
      plan_bytes(plan.buffers));
}

/// The same of moments, if there is such a stage.
void print_moments_plan(const RunOptions& options, const stages::Pipeline& pipeline, int ranks, int threads) {
  const data::ImageSet* images = pipeline.images("calibration");
  if (images == nullptr) return;
  stages::MomentsScale scale{.images = options.plan_images > 0 ? options.plan_images : images->size(),
                             .ranks = options.plan_ranks > 0 ? options.plan_ranks : ranks,
                             .threads = threads};
  if (!pipeline.moments_plan(scale)) return;
  std::string source = "--moments-rate";
  if (options.plan_moments_rate > 0) {
    scale.rank_rate = options.plan_moments_rate;
  } else if (pipeline.graph().state("moments") == run::ArtefactState::done) {
    const nlohmann::json manifest = pipeline.graph().manifest("moments");
    const nlohmann::json counts = manifest["counts"];
    const double seen = counts.value("images", 0.0) * counts.value("passes", 0.0);
    if (seen > 0) scale.rank_rate = measured_rate(manifest, seen);
    source = "as the finished moments made, with its routers";
  }
  const stages::MomentsPlan plan = *pipeline.moments_plan(scale);
  fmt::print("\nmoments, {} images on {}:\n", scale.images, ranks_text(scale.ranks, scale.threads));
  fmt::print("  reads     all images {} for {} layers; the busiest rank has {}\n",
             plan.passes == 1 ? "once" : fmt::format("{} times", plan.passes), plan.layers, plan.rank_images);
  if (plan.seconds) {
    fmt::print("  time      {} at {:.1f} images a second ({})\n", run::duration_text(*plan.seconds), *scale.rank_rate,
               source);
  } else {
    fmt::print(
        "  time      unknown: give --moments-rate, the images a second of one rank in a pass that a small run says\n");
  }
  fmt::print(
      "  memory    {} a rank, besides the program: weights {}, sums {}, micro-batches about {}; rank 0 while it writes "
      "a layer {} more\n",
      plan_bytes(plan.memory()), plan_bytes(plan.weights), plan_bytes(plan.sums), plan_bytes(plan.traces),
      plan_bytes(plan.root_file));
}

/// What cluster takes of a rank's memory, for any number of images and ranks.
void print_cluster_plan(const RunOptions& options, const stages::Pipeline& pipeline, int ranks, int threads) {
  const data::ImageSet* images = pipeline.images("calibration");
  if (images == nullptr) return;
  const std::int64_t rows = pipeline.recorded_rows(options.plan_images > 0 ? options.plan_images : images->size());
  if (options.plan_ranks > 0) ranks = options.plan_ranks;
  const stages::ClusterPlan plan = pipeline.cluster_plan(rows, ranks, threads);
  fmt::print("\ncluster, {} rows of a layer on {}:\n", rows, ranks_text(ranks, threads));
  fmt::print("  memory    at most {} a rank, besides the program: rows {}, labels {}", plan_bytes(plan.memory()),
             plan_bytes(plan.rows), plan_bytes(plan.labels));
  const std::pair<const char*, double> steps[] = {{"first centroids", plan.start},
                                                  {"passes", plan.passes},
                                                  {"gap", plan.choice},
                                                  {"HDBSCAN", plan.density},
                                                  {"or quality", plan.quality}};
  for (const auto& [name, bytes] : steps) {
    if (bytes > 0) fmt::print(", {} {}", name, plan_bytes(bytes));
  }
  fmt::print("\n");
}

/// Reading the configuration, the image sets and the weights' header: on every rank the same, or on none.
struct Prepared {
  stages::RunConfig config;
  Device device;
  std::optional<stages::Pipeline> pipeline;
  std::vector<std::string> wanted;
  fs::path folder;
};

void prepare(const RunOptions& options, Prepared& prepared) {
  prepared.pipeline.emplace(prepared.config);
  prepared.folder = run_folder(prepared.config, options.settings);
  if (options.stage != "report") prepared.wanted = prepared.pipeline->nodes_of(options.stage);
  if (options.only.empty()) return;
  for (const std::string& id : options.only) {
    if (std::find(prepared.wanted.begin(), prepared.wanted.end(), id) != prepared.wanted.end()) continue;
    fail(ExitCode::usage, "--stage {}: this configuration has no such stage; it has {}", id,
         fmt::join(prepared.wanted, ", "));
  }
  prepared.wanted = options.only;
}

void print_reasons(const stages::Pipeline& pipeline, const std::vector<std::string>& wanted) {
  for (const run::StageNode& node : pipeline.graph().nodes()) {
    const bool asked = std::find(wanted.begin(), wanted.end(), node.id) != wanted.end();
    const std::vector<std::string> lines = run::explain(pipeline.graph().store(), node.spec);
    for (std::size_t i = 0; i < lines.size(); ++i) fmt::print("{:<28} {}\n", i == 0 ? node.id : "", lines[i]);
    if (!asked) fmt::print("{:<28} (only if needed)\n", "");
  }
}

/// Ranks of a job watch over each other through a folder in the store. Collective; null for one rank.
class Watch {
 public:
  Watch(comm::Communicator& world, const stages::RunParams& params) : world_(world) {
    if (world.size() == 1) return;
    std::string place;
    world.together([&] {
      if (!world.is_root()) return;
      place = fmt::format("{}.{}", run::ArtefactLock::this_process().token,
                          std::chrono::system_clock::now().time_since_epoch().count());
      comm::create_board_folder(run::watch_root(params.store) / place, world.size());
    });
    folder_ = run::watch_root(params.store) / world.broadcast_text(place);
    std::shared_ptr<comm::Board> board;
    world.together([&] { board = comm::open_folder_board(folder_); });
    comm::WatchParams watch;
    watch.deadline = static_cast<double>(params.deadline);
    watched_ = comm::watch(world, board, watch);
  }
  /// Everybody has come out of the last collective, well or by agreement; the folder has done its work.
  ~Watch() {
    if (!watched_) return;
    watched_.reset();
    if (!world_.is_root()) return;
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    fs::remove(folder_.parent_path(), ignored);  // only if no other job's folder is in it
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  comm::Communicator& comm() { return watched_ ? *watched_ : world_; }

 private:
  comm::Communicator& world_;
  fs::path folder_;
  std::unique_ptr<comm::Communicator> watched_;
};

void set_end_time(const stages::RunParams& params) {
  const auto margin = std::chrono::seconds(params.stop_before_end);
  if (params.time_limit > 0) {
    const auto limit = std::chrono::duration<double>(params.time_limit * 60);
    run::stop_at(std::chrono::system_clock::now() +
                 std::chrono::duration_cast<std::chrono::system_clock::duration>(limit) - margin);
  }
  if (const auto end = run::slurm_end_time()) {
    // A job shorter than the margin would be told to save before it has begun.
    const auto left = *end - std::chrono::system_clock::now();
    run::stop_at(*end - std::min<std::chrono::system_clock::duration>(margin, left / 2));
  }
}

/// Collective. The nodes of the run, each once.
std::vector<std::string> hosts_of(comm::Communicator& comm) {
  char name[256] = "unknown";
  gethostname(name, sizeof(name) - 1);
  const std::vector<std::string> all = comm.all_gather_text(name);
  const std::set<std::string> unique(all.begin(), all.end());
  return {unique.begin(), unique.end()};
}

/// All after the plan: makes what is missing, then the record and the report.
void make_and_report(const RunOptions& options, const Prepared& prepared, int threads, comm::Communicator& comm,
                     const std::shared_ptr<spdlog::logger>& log) {
  const stages::Pipeline& pipeline = *prepared.pipeline;
  // A unit of work is one thread's: its kernels stay single-threaded, which makes results independent of the thread
  // count.
  Workers workers(threads, [] { at::set_num_threads(1); });
  run::Context context{.comm = comm, .workers = workers, .log = log, .device = prepared.device};
  const Environment environment = survey_environment(comm, threads, prepared.device);
  log->info("{}: {} on {} ({})", options.stage, ranks_text(comm.size(), threads), name_of(prepared.device.kind),
            environment.version_line());
  if (comm.size() > 1) {
    for (const std::string& row : environment.table()) log->info(row);
  }
  stages::ReportFacts facts{.program_version = MOEXTRACT_VERSION,
                            .ranks = comm.size(),
                            .threads_per_rank = threads,
                            .hosts = hosts_of(comm),
                            .outcomes = {}};
  if (options.stage != "report") facts.outcomes = pipeline.graph().execute(prepared.wanted, context, MOEXTRACT_VERSION);
  comm.together([&] {
    if (!comm.is_root()) return;
    run::write_run_record(prepared.folder, pipeline.identity(), stage_folders(pipeline.graph()));
    const bool all_there = !facts.outcomes.empty() && std::all_of(facts.outcomes.begin(), facts.outcomes.end(),
                                                                  [](const run::StageOutcome& o) { return o.reused; });
    if (all_there) fmt::print("All stages were already done.\n");
    if ((options.stage == "run" && options.only.empty()) || options.stage == "report") {
      const std::string table = stages::write_report(pipeline, facts, prepared.folder);
      fmt::print("{}\nReport: {}\n", table, fs::absolute(prepared.folder / "report.html").lexically_normal().string());
    } else {
      for (const std::string& id : prepared.wanted) fmt::print("{}: {}\n", id, pipeline.graph().folder(id).string());
    }
  });
}

}  // namespace

fs::path run_folder(const stages::RunConfig& config, const std::vector<std::string>& settings) {
  if (!config.run.folder.empty()) return config.run.folder;
  std::string name = config.run.name;
  for (const std::string& setting : settings) {
    if (setting.starts_with("run.")) continue;
    std::string safe = setting;
    for (char& c : safe) c = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '=' || c == '-' ? c : '_';
    name += '+';
    name.append(safe, 0, 60);
  }
  return fs::path("runs") / name;
}

void run_command(const RunOptions& options, comm::Communicator& world) {
  const auto log = run::make_logger(world.rank(), world.size(), options.verbose);
  Prepared prepared;
  world.together([&] { stages::read_config(options.config, options.settings, prepared.config); });
  prepared.device = stages::settle_device(prepared.config.run.device, world);
  prepared.config.run.device = stages::choice_of(prepared.device.kind);
  // Rank 0 first: it keeps the listings of the image sets, and the others find them.
  for (const bool root : {true, false}) {
    world.together([&] {
      if (world.is_root() == root) prepare(options, prepared);
    });
  }
  const stages::Pipeline& pipeline = *prepared.pipeline;
  const int threads = prepared.config.run.threads > 0 ? prepared.config.run.threads : fair_threads(world);
  if (world.is_root()) {
    for (const char* name : {"calibration", "train", "validation"}) {
      const data::ImageSet* images = pipeline.images(name);
      if (images == nullptr) continue;
      for (const std::string& remark : images->remarks()) log->warn("data.{}: {}", name, remark);
    }
  }
  if (options.dry_run || options.explain) {
    world.together([&] {
      if (!world.is_root()) return;
      if (options.explain) {
        print_reasons(pipeline, prepared.wanted);
        return;
      }
      print_plan(pipeline, prepared.wanted, prepared.folder, world.size(), threads, prepared.device);
      print_collect_plan(options, pipeline, world.size(), threads);
      print_moments_plan(options, pipeline, world.size(), threads);
      print_cluster_plan(options, pipeline, world.size(), threads);
    });
    return;
  }
  world.together([&] {
    if (!world.is_root()) return;
    run::claim_run_folder(prepared.folder, pipeline.identity(), stage_folders(pipeline.graph()),
                          stages::Pipeline::default_identity());
    run::register_run(prepared.config.run.store, prepared.folder);
  });
  run::install_stop_handlers();
  set_end_time(prepared.config.run);
  std::unique_ptr<comm::Communicator> devices;
  if (prepared.device.kind == DeviceKind::cuda && prepared.device.is_there()) {
    model::prepare_device(prepared.device);
    if (world.size() > 1) devices = join_devices(world, prepared.device.index);
  }
  Watch watch(devices ? *devices : world, prepared.config.run);
  watch.comm().guard([&] { make_and_report(options, prepared, threads, watch.comm(), log); });
}

}  // namespace moextract::app
