#include "slurm/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "config/reader.h"
#include "core/error.h"
#include "slurm/job_script.h"
#include "slurm/program.h"

namespace moextract::slurm {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::int64_t number_of(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string trimmed(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \t\n");
  return from == std::string::npos ? "" : text.substr(from, text.find_last_not_of(" \t\n") - from + 1);
}

/// Slurm's lines as one: "sbatch: error: " is said by us.
std::string one_line(const std::string& text) {
  std::string joined;
  for (std::string line : split(trimmed(text), '\n')) {
    if (const std::size_t at = line.find("error: "); at != std::string::npos) line = line.substr(at + 7);
    joined += (joined.empty() ? "" : "; ") + line;
  }
  return joined;
}

[[noreturn]] void no_slurm() {
  fail(ExitCode::distributed,
       "this machine has no Slurm (no sbatch in PATH): go to a login node of the cluster, or load its module; "
       "moextract run "
       "works without Slurm, and --print shows the script alone");
}

/// What could be meant instead of the name in sbatch's refusal.
std::string partition_hint(const std::string& refusal) {
  const std::string mark = "invalid partition specified: ";
  const std::size_t at = refusal.find(mark);
  if (at == std::string::npos) return "";
  std::vector<std::string> names;
  for (const Partition& partition : partitions()) names.push_back(partition.name);
  const std::string wanted = refusal.substr(at + mark.size(), refusal.find('\n', at) - at - mark.size());
  const std::string near = config::nearest_name(wanted, names);
  return fmt::format("; this cluster has {}{}", fmt::join(names, ", "),
                     near.empty() ? "" : ": did you mean " + near + "?");
}

}  // namespace

void need_slurm() {
  if (run_program({"sbatch", "--version"}).code == 127) no_slurm();
}

std::string submit(const std::filesystem::path& script) {
  const ProgramResult result = run_program({"sbatch", "--parsable", script.string()});
  if (result.code == 127) no_slurm();
  if (result.code != 0) {
    fail(ExitCode::distributed, "sbatch refused {}: {}{}. Nothing was submitted by this", script.string(),
         one_line(result.err), partition_hint(trimmed(result.err)));
  }
  // "12" or "12;cluster"
  return trimmed(result.out.substr(0, result.out.find(';')));
}

std::string refusal(const std::filesystem::path& script) {
  const ProgramResult result = run_program({"sbatch", "--test-only", script.string()});
  if (result.code == 127) no_slurm();
  if (result.code == 0) return "";
  const std::string said = one_line(result.err);
  return said.empty() ? fmt::format("it ends with exit code {} and says nothing", result.code)
                      : said + partition_hint(trimmed(result.err));
}

std::vector<QueuedJob> queue(const std::vector<std::string>& ids) {
  std::vector<QueuedJob> jobs;
  if (ids.empty()) return jobs;
  const ProgramResult result = run_program(
      {"squeue", "--noheader", "--array", "--format=%i|%T|%r|%N|%M|%l", fmt::format("--jobs={}", fmt::join(ids, ","))});
  // Jobs that ended some minutes ago are "invalid" to squeue. Where it cannot tell, nothing may be taken for ended.
  if (result.code != 0 && result.code != 127 && result.err.find("Invalid job id") == std::string::npos) {
    fail(ExitCode::distributed, "squeue: {}. Whether jobs of this run are in the queue is not known: try again",
         one_line(result.err));
  }
  for (const std::string& line : split(result.out, '\n')) {
    const std::vector<std::string> parts = split(line, '|');
    if (parts.size() >= 6) jobs.push_back({parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]});
  }
  return jobs;
}

void cancel(const std::string& id) {
  const ProgramResult result = run_program({"scancel", id});
  if (result.code != 0) fail(ExitCode::distributed, "scancel {}: {}", id, trimmed(result.err));
}

bool ask_to_save(const std::string& id) {
  return run_program({"scancel", "--signal=USR2", id}).code == 0;
}

std::vector<Partition> partitions() {
  std::vector<Partition> all;
  const ProgramResult result = run_program({"sinfo", "--noheader", "--format=%P|%D|%c|%l|%G"});
  for (const std::string& line : split(result.out, '\n')) {
    const std::vector<std::string> parts = split(line, '|');
    if (parts.size() < 5) continue;
    Partition partition;
    partition.name = parts[0];
    partition.is_default = partition.name.ends_with('*');
    if (partition.is_default) partition.name.pop_back();
    partition.nodes = number_of(parts[1]);
    partition.cpus_per_node = number_of(parts[2]);
    partition.seconds = seconds_of(parts[3]);
    partition.gpus = parts[4] == "(null)" ? "" : parts[4];
    // A partition of different nodes, or of nodes in different states, has several lines.
    const auto same =
        std::find_if(all.begin(), all.end(), [&](const Partition& p) { return p.name == partition.name; });
    if (same == all.end()) {
      all.push_back(std::move(partition));
    } else {
      same->nodes += partition.nodes;
      same->cpus_per_node = std::max(same->cpus_per_node, partition.cpus_per_node);
      if (same->gpus.empty()) same->gpus = partition.gpus;
    }
  }
  return all;
}

std::int64_t max_array_size() {
  constexpr std::int64_t kDefault = 1001;
  const std::string text = run_program({"scontrol", "show", "config"}).out;
  const std::size_t at = text.find("MaxArraySize");
  if (at == std::string::npos) return kDefault;
  const std::size_t equals = text.find('=', at);
  if (equals == std::string::npos) return kDefault;
  const std::int64_t size = number_of(trimmed(text.substr(equals + 1, text.find('\n', equals) - equals - 1)));
  return size > 0 ? size : kDefault;
}

std::vector<std::string> mpi_kinds() {
  const ProgramResult result = run_program({"srun", "--mpi=list"});
  std::vector<std::string> kinds;
  for (const std::string& line : split(result.out + result.err, '\n')) {
    for (const std::string& word : words_of(line)) {
      if (word.starts_with("pmi") || word == "none" || word == "cray_shasta") kinds.push_back(word);
    }
  }
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  return kinds;
}

std::int64_t seconds_of(const std::string& time) {
  std::string rest = time;
  std::int64_t days = 0;
  const bool has_days = rest.find('-') != std::string::npos;
  if (has_days) {
    days = number_of(rest.substr(0, rest.find('-')));
    rest = rest.substr(rest.find('-') + 1);
  }
  std::vector<std::int64_t> parts;
  for (const std::string& part : split(rest, ':')) {
    if (part.empty() || part.find_first_not_of("0123456789") != std::string::npos) return -1;
    parts.push_back(number_of(part));
  }
  if (parts.empty() || parts.size() > 3) return -1;
  // Behind days come hours; without them one number is minutes, two are minutes and seconds.
  if (has_days) parts.resize(3);
  if (parts.size() == 1) parts.push_back(0);
  if (parts.size() == 2) parts.insert(parts.begin(), 0);
  return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2];
}

}  // namespace moextract::slurm
