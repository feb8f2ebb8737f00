#include "app/submit_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "app/run_command.h"
#include "core/error.h"
#include "core/file.h"
#include "run/run_folder.h"
#include "slurm/cluster.h"
#include "stages/pipeline.h"

namespace moextract::app {
namespace fs = std::filesystem;
namespace {

/// The files of a run's job: a folder beside that of the run, which holds nothing but record and report.
class JobFolder {
 public:
  explicit JobFolder(const fs::path& run_folder)
      : root_(fs::absolute(run_folder).lexically_normal().string() + ".slurm") {}

  const fs::path& root() const { return root_; }
  fs::path log() const { return root_ / "log"; }
  fs::path script(const std::string& name) const { return root_ / (name + ".sbatch"); }
  fs::path cancelled() const { return root_ / "cancelled"; }
  std::vector<std::string> jobs() const {
    std::vector<std::string> ids;
    std::ifstream stream(root_ / "jobs");
    for (std::string id; stream >> id;) ids.push_back(id);
    return ids;
  }
  void write_jobs(const std::vector<std::string>& ids) const {
    std::string text;
    for (const std::string& id : ids) text += id + "\n";
    write_file_atomically(root_ / "jobs", text);
  }
  /// A new submission counts its starts anew.
  void forget() const {
    std::error_code ignored;
    for (const char* name : {"cancelled", "tries"}) fs::remove(root_ / name, ignored);
  }

 private:
  fs::path root_;
};

fs::path folder_of(const RunReference& reference) {
  if (fs::is_directory(reference.place)) return reference.place;
  stages::RunConfig config;
  stages::read_config(reference.place, reference.settings, config);
  return run_folder(config, reference.settings);
}

JobFolder submitted(const RunReference& reference) {
  JobFolder folder(folder_of(reference));
  if (folder.jobs().empty()) {
    fail(ExitCode::input, "{}: this run was not submitted; moextract submit {}", folder.root().string(),
         reference.place.string());
  }
  return folder;
}

std::string text_of(const slurm::QueuedJob& job) {
  const std::string where =
      job.nodes.empty() ? (job.reason == "None" ? "" : " (" + job.reason + ")") : " on " + job.nodes;
  return fmt::format("job {}: {}{}, {} of {}", job.id, job.state, where, job.elapsed, job.limit);
}

/// Stages that only multiply matrices of moments or clusters, and look at no image.
bool needs_no_gpu(const std::string& stage) {
  return stage == "cluster" || stage == "assemble";
}

/// "4" or "2-8". Throws UserError (usage).
std::pair<std::int64_t, std::int64_t> node_range(const std::string& text) {
  constexpr std::int64_t kMost = 100'000;
  const std::size_t dash = text.find('-');
  const auto number = [&](const std::string& digits) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    return whole && value >= 1 && value <= kMost ? value : 0;
  };
  const std::int64_t least = number(text.substr(0, dash)),
                     most = dash == std::string::npos ? least : number(text.substr(dash + 1));
  if (least == 0 || most < least)
    fail(ExitCode::usage, "--nodes {}: expected a number from 1 to {}, or a range of them, as in 2-8", text, kMost);
  return {least, most};
}

class Submission {
 public:
  explicit Submission(const SubmitOptions& options)
      : options_(options),
        site_(slurm::read_site(options.job.site)),
        request_(job_request(options.job)),
        config_(read()),
        folder_(run_folder(config_, options.settings)) {
    request_.name = "moextract-" + config_.run.name;
    request_.output = folder_.log();
    request_.state = folder_.root();
    request_.program = job_program(options.job);
    request_.dependency = options.dependency;
  }

  /// Of the whole run. Throws UserError for what would keep the run from beginning.
  std::string text() const {
    check_inputs();
    return script("run", options_.dependency);
  }

  void print() const {
    for (const std::string& stage : stages()) fmt::print("{}", script(stage, options_.dependency));
  }

  void submit() {
    slurm::need_slurm();
    check_inputs();
    const std::vector<slurm::QueuedJob> active = slurm::queue(folder_.jobs());
    if (!active.empty()) {
      fail(ExitCode::conflict, "{} of this run is in the queue already; moextract cancel {} takes it away",
           text_of(active.front()), options_.config.string());
    }
    make_folder(folder_.root());
    folder_.forget();
    std::vector<std::string> ids;
    std::string dependency = options_.dependency;
    for (const std::string& stage : stages()) {
      const fs::path path = folder_.script(stage);
      write_file_atomically(path, script(stage, dependency));
      ids.push_back(slurm::submit(path));
      folder_.write_jobs(ids);  // at once: a job that nobody remembers cannot be cancelled
      dependency = "afterok:" + ids.back();
      fmt::print("job {}: {}\n", ids.back(), stage);
    }
    fmt::print("script and log: {}\nmoextract status, logs and cancel take the same configuration\n",
               folder_.root().string());
  }

 private:
  stages::RunConfig read() const {
    stages::RunConfig config;
    stages::read_config(options_.config, options_.settings, config);
    return config;
  }

  void check_inputs() const {
    // Inside a container the inputs may have other paths: there the job itself looks.
    if (options_.job.container.empty()) static_cast<void>(stages::Pipeline(config_));
  }

  /// The commands that become jobs, in their order.
  std::vector<std::string> stages() const {
    if (!options_.per_stage) return {"run"};
    const stages::Pipeline pipeline(config_);
    std::vector<std::string> names;
    for (const std::string& name : stages::kStageNames) {
      const auto& nodes = pipeline.graph().nodes();
      if (std::any_of(nodes.begin(), nodes.end(),
                      [&](const run::StageNode& node) { return node.id == name || node.id.starts_with(name + "/"); }))
        names.push_back(name);
    }
    names.emplace_back("run");
    return names;
  }

  std::string script(const std::string& stage, const std::string& dependency) const {
    slurm::JobRequest request = request_;
    request.arguments = {stage, fs::absolute(options_.config).lexically_normal().string()};
    for (const std::string& setting : options_.settings) {
      request.arguments.emplace_back("--set");
      request.arguments.push_back(setting);
    }
    // Where it is planned and where its stages run there may be other devices: the job says what it asks for.
    if (config_.run.device == stages::DeviceChoice::automatic && request_.gpus_per_node > 0) {
      request.arguments.emplace_back("--set");
      request.arguments.emplace_back("run.device=cuda");
    }
    request.dependency = dependency;
    if (options_.per_stage) {
      request.name += "-" + stage;
      request.state = folder_.root() / stage;
      if (needs_no_gpu(stage)) {
        request.gpus_per_node = 0;
        request.tasks_per_node = site_.sockets_per_node;
        if (!site_.cpu_partition.empty() && options_.job.partition.empty()) request.partition = site_.cpu_partition;
        slurm::share_cores(request, site_);
      }
    }
    return slurm::job_script(request, slurm::job_template());
  }

  const SubmitOptions& options_;
  const slurm::SiteParams site_;
  slurm::JobRequest request_;
  const stages::RunConfig config_;
  const JobFolder folder_;
};

}  // namespace

slurm::JobRequest job_request(const JobOptions& options) {
  slurm::SiteParams site = slurm::read_site(options.site);
  if (options.gpus_per_node >= 0) site.gpus_per_node = options.gpus_per_node;
  slurm::JobRequest request = slurm::job_for(site);
  const auto [nodes, most_nodes] = node_range(options.nodes);
  request.nodes = nodes;
  request.most_nodes = most_nodes;
  if (options.tasks_per_node > 0) {
    request.tasks_per_node = options.tasks_per_node;
    slurm::share_cores(request, site);
  }
  if (options.cpus_per_task > 0) request.cpus_per_task = options.cpus_per_task;
  if (options.tries > 0) request.tries = options.tries;
  const auto choose = [](std::string& value, const std::string& given) {
    if (!given.empty()) value = given;
  };
  choose(request.time, options.time);
  choose(request.partition, options.partition);
  choose(request.account, options.account);
  choose(request.qos, options.qos);
  choose(request.memory, options.memory);
  if (slurm::seconds_of(request.time) < 0) {
    fail(ExitCode::usage, "--time {}: expected hours:minutes:seconds, as in 04:00:00, or days-hours:minutes:seconds",
         request.time);
  }
  if (request.warning > 0 && slurm::seconds_of(request.time) <= request.warning) {
    fail(ExitCode::usage,
         "--time {}: not more than the {} seconds that the job gets to save (warning, in the site file)", request.time,
         request.warning);
  }
  return request;
}

std::vector<std::string> job_program(const JobOptions& options) {
  if (options.container.empty()) return {fs::read_symlink("/proc/self/exe").string()};
  std::vector<std::string> words = slurm::words_of(slurm::read_site(options.site).container_command);
  // An address (docker://...) is handed on as it is.
  words.push_back(fs::exists(options.container) ? fs::absolute(options.container).string() : options.container);
  words.emplace_back("moextract");
  return words;
}

std::string job_script_text(const SubmitOptions& options) {
  if (!options.config.empty()) return Submission(options).text();
  slurm::JobRequest request = job_request(options.job);
  request.program = job_program(options.job);
  request.arguments = {"doctor"};
  request.output = "/dev/null";
  request.state = fs::temp_directory_path();
  return slurm::job_script(request, slurm::job_template());
}

void submit_command(const SubmitOptions& options) {
  Submission submission(options);
  if (options.print) {
    submission.print();
  } else {
    submission.submit();
  }
}

void logs_command(const RunReference& reference, bool follow) {
  const JobFolder folder = submitted(reference);
  if (!fs::exists(folder.log())) {
    fmt::print(stderr, "{}: nothing was said yet; {}\n", folder.log().string(), job_text(folder_of(reference)));
    if (!follow) return;
  }
  // tail knows how to follow a file that is replaced or not there yet.
  if (follow) {
    std::fflush(stdout);
    ::execlp("tail", "tail", "-n", "+1", "-F", folder.log().c_str(), static_cast<char*>(nullptr));
    fail(ExitCode::other, "cannot start tail");
  }
  fmt::print("{}", read_text_file(folder.log()));
}

void cancel_command(const RunReference& reference, bool now) {
  const JobFolder folder = submitted(reference);
  const std::vector<slurm::QueuedJob> active = slurm::queue(folder.jobs());
  if (active.empty()) {
    fmt::print("no job of this run is in the queue\n");
    return;
  }
  // The last one first: a job that waits for another would start when that one has ended.
  write_file_atomically(folder.cancelled(), "");
  for (auto job = active.rbegin(); job != active.rend(); ++job) {
    if (job->state == "RUNNING" && !now && slurm::ask_to_save(job->id)) {
      fmt::print("job {}: asked to save and leave\n", job->id);
    } else {
      slurm::cancel(job->id);
      fmt::print("job {}: cancelled\n", job->id);
    }
  }
}

std::string job_text(const fs::path& run_folder) {
  const std::vector<std::string> ids = JobFolder(run_folder).jobs();
  if (ids.empty()) return "";
  std::vector<slurm::QueuedJob> active;
  try {
    active = slurm::queue(ids);
  } catch (const UserError& error) {
    return fmt::format("job {}: {}", ids.back(), error.what());
  }
  if (active.empty())
    return fmt::format("job {}: no longer in the queue; moextract logs shows what it said", ids.back());
  std::string text;
  for (const slurm::QueuedJob& job : active) text += fmt::format("{}{}", text.empty() ? "" : "\n", text_of(job));
  return text;
}

}  // namespace moextract::app
