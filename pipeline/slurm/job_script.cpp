#include "slurm/job_script.h"

#include <fmt/format.h>

#include <sstream>

#include "core/error.h"
#include "slurm/program.h"

namespace moextract::slurm {
namespace {

/// Replaces the lines between "# >>> NAME" and "# <<< NAME".
std::string with_block(std::string_view text, const std::string& name, const std::string& lines) {
  const std::string open = "# >>> " + name, close = "# <<< " + name;
  const std::size_t from = text.find(open), to = text.find(close);
  if (from == std::string_view::npos || to == std::string_view::npos || to < from) {
    fail(ExitCode::config, "the job template has no lines '{}' and '{}', which say where the {} go", open, close, name);
  }
  const std::size_t after_open = text.find('\n', from) + 1;
  return fmt::format("{}{}{}", text.substr(0, after_open), lines, text.substr(to));
}

class Lines {
 public:
  /// #SBATCH lines know no quotes around the whole, and a line end would begin another line.
  void option(const std::string& name, const std::string& value) {
    if (value.empty()) return;
    check(name, value);
    text_ += fmt::format("#SBATCH --{}={}\n", name,
                         value.find_first_of(" \t") == std::string::npos ? value : "\"" + value + "\"");
  }
  void plain_option(const std::string& text) {
    check("sbatch_options", text);
    text_ += "#SBATCH " + text + "\n";
  }
  void variable(const std::string& name, const std::string& value) {
    text_ += fmt::format("{}={}\n", name, shell_word(value));
  }
  void list(const std::string& name, const std::vector<std::string>& words) {
    std::vector<std::string> quoted;
    for (const std::string& word : words) quoted.push_back(shell_word(word));
    text_ += fmt::format("{}=({})\n", name, fmt::join(quoted, " "));
  }
  void line(const std::string& text) { text_ += text + "\n"; }
  const std::string& text() const { return text_; }

 private:
  static void check(const std::string& name, const std::string& value) {
    if (value.find_first_of("\n\r") != std::string::npos) fail(ExitCode::config, "{}: holds a line end", name);
  }
  std::string text_;
};

std::string resources(const JobRequest& r) {
  Lines lines;
  lines.option("job-name", r.name);
  lines.option("nodes", r.most_nodes > r.nodes ? fmt::format("{}-{}", r.nodes, r.most_nodes) : std::to_string(r.nodes));
  lines.option("ntasks-per-node", std::to_string(r.tasks_per_node));
  lines.option("cpus-per-task", std::to_string(r.cpus_per_task));
  if (r.gpus_per_node > 0)
    lines.option("gpus-per-node", (r.gpu_type.empty() ? "" : r.gpu_type + ":") + std::to_string(r.gpus_per_node));
  lines.option("mem", r.memory);
  lines.option("time", r.time);
  lines.option("partition", r.partition);
  lines.option("account", r.account);
  lines.option("qos", r.qos);
  lines.option("dependency", r.dependency);
  lines.option("array", r.array);
  if (r.warning > 0) lines.option("signal", fmt::format("USR2@{}", r.warning));
  lines.line("#SBATCH --open-mode=append");
  lines.line("#SBATCH --requeue");
  lines.option("output", r.output.string());
  for (const std::string& option : r.sbatch_options) lines.plain_option(option);
  return lines.text();
}

std::string settings(const JobRequest& r) {
  Lines lines;
  for (const std::string& line : r.preamble) lines.line(line);
  lines.list("program", r.program);
  lines.list("arguments", r.arguments);
  lines.list("launcher", r.launcher);
  lines.variable("tries", std::to_string(r.tries));
  lines.variable("state", r.state.string());
  lines.variable("tasks", r.tasks.string());
  lines.variable("folder", r.folder.string());
  return lines.text();
}

}  // namespace

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

JobRequest job_for(const SiteParams& site) {
  JobRequest request;
  request.gpus_per_node = site.gpus_per_node;
  request.gpu_type = site.gpu_type;
  request.tasks_per_node = site.gpus_per_node > 0 ? site.gpus_per_node : site.sockets_per_node;
  request.partition = site.partition;
  request.account = site.account;
  request.qos = site.qos;
  request.memory = site.memory;
  request.time = site.time;
  request.warning = site.warning;
  request.tries = site.tries;
  request.launcher = words_of(site.launcher);
  if (!site.cpu_bind.empty()) request.launcher.push_back("--cpu-bind=" + site.cpu_bind);
  request.preamble = site.preamble;
  request.sbatch_options = site.sbatch_options;
  share_cores(request, site);
  return request;
}

void share_cores(JobRequest& request, const SiteParams& site) {
  request.cpus_per_task = std::max<std::int64_t>(1, site.cores_per_node / request.tasks_per_node);
}

std::string job_script(const JobRequest& request, std::string_view text) {
  return with_block(with_block(text, "resources", resources(request)), "settings", settings(request));
}

}  // namespace moextract::slurm
