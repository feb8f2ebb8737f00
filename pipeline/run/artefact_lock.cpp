#include "run/artefact_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "comm/watched.h"
#include "core/error.h"
#include "core/json_text.h"

namespace moextract::run {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point time) {
  return std::chrono::duration<double>(Clock::now() - time).count();
}

std::string host_name() {
  char name[256] = "unknown";
  gethostname(name, sizeof(name) - 1);
  return name;
}

/// Field 22 of /proc/PID/stat, in clock ticks since the host's start; 0 if there is no such process.
std::uint64_t start_of(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return 0;
  std::istringstream words(text.substr(name_end + 1));
  std::string word;
  for (int field = 3; field <= 22; ++field) words >> word;
  return std::strtoull(word.c_str(), nullptr, 10);
}

/// A zombie has ended, though its number is still taken.
bool is_zombie(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && name_end + 2 < text.size() && text[name_end + 2] == 'Z';
}

std::uint64_t pid_space() {
  struct stat facts {};
  return ::stat("/proc/self/ns/pid", &facts) == 0 ? static_cast<std::uint64_t>(facts.st_ino) : 0;
}

/// What changes with every touch: nanoseconds, or -1 if there is no file.
std::int64_t stamp(const fs::path& file) {
  // Opened, because network file systems answer stat() from memory but ask the server when a file is opened.
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  struct stat facts {};
  const bool well = ::fstat(fd, &facts) == 0;
  ::close(fd);
  return well ? static_cast<std::int64_t>(facts.st_mtim.tv_sec) * 1'000'000'000 + facts.st_mtim.tv_nsec : -1;
}

}  // namespace

std::string LockHolder::text() const {
  if (host.empty()) return "a process that has not written its name";
  return fmt::format("process {} on {}{}", pid, host, job.empty() ? "" : fmt::format(" (job {})", job));
}

LockHolder ArtefactLock::this_process() {
  static std::atomic<int> number{0};
  LockHolder me;
  me.host = host_name();
  me.pid = ::getpid();
  me.started = start_of(me.pid);
  me.pid_space = pid_space();
  for (const char* variable : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"}) {
    if (const char* job = std::getenv(variable); job != nullptr && me.job.empty()) me.job = job;
  }
  me.token = fmt::format("{}.{}.{}.{}", me.host, me.pid, me.started, ++number);
  return me;
}

std::optional<LockHolder> ArtefactLock::holder(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream) return std::nullopt;
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const json value = parse_json(text);
  LockHolder holder;
  if (value.is_discarded() || !value.is_object()) return holder;
  try {
    holder.host = value.at("host");
    holder.job = value.at("job");
    holder.token = value.at("token");
    holder.pid = value.at("pid");
    holder.started = value.at("started");
    holder.pid_space = value.at("pid_space");
  } catch (const json::exception&) {
    return LockHolder{};
  }
  return holder;
}

bool ArtefactLock::is_gone(const LockHolder& holder) {
  if (holder.host != host_name() || holder.pid_space != pid_space()) return false;
  if (::kill(static_cast<pid_t>(holder.pid), 0) != 0 && errno == ESRCH) return true;
  return start_of(holder.pid) != holder.started || is_zombie(holder.pid);
}

void ArtefactLock::clear_away(const fs::path& file) noexcept {
  try {
    const std::optional<LockHolder> left = holder(file);
    if (left && !left->host.empty() && is_gone(*left)) fs::remove(file);
  } catch (...) {  // a lock that stays is in nobody's way
  }
}

bool ArtefactLock::try_create(const fs::path& file) const {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    if (errno == EEXIST) return false;
    fail(ExitCode::storage,
         "{}: cannot be created ({}). Free space or mend the permissions, then run the same command again",
         file.string(), std::strerror(errno));
  }
  const std::string text = json{{"host", mine_.host},           {"pid", mine_.pid}, {"started", mine_.started},
                                {"pid_space", mine_.pid_space}, {"job", mine_.job}, {"token", mine_.token}}
                               .dump() +
                           "\n";
  const bool well = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(fd);
  if (!well) {
    ::unlink(file.c_str());
    fail(ExitCode::storage, "{}: cannot be written ({}). Free space, then run the same command again", file.string(),
         std::strerror(error));
  }
  return true;
}

void ArtefactLock::take_over(const LockHolder& dead) {
  // Two who wait may find the same holder dead; only one of them may remove its file, or it would remove the new one's.
  const fs::path right = file_.string() + ".takeover";
  if (!try_create(right)) {
    const std::optional<LockHolder> other = holder(right);
    std::error_code ignored;
    if (other && is_gone(*other)) fs::remove(right, ignored);  // it died in between these lines
    return;
  }
  const std::optional<LockHolder> now = holder(file_);
  std::error_code ignored;
  if (now && now->token == dead.token) fs::remove(file_, ignored);
  fs::remove(right, ignored);
}

ArtefactLock::ArtefactLock(fs::path file, spdlog::logger& log, const std::function<bool()>& keep_waiting,
                           LockTiming timing)
    : file_(std::move(file)), mine_(this_process()), timing_(timing) {
  Clock::time_point seen = Clock::now();
  std::int64_t last = -1;
  std::string told;
  while (!try_create(file_)) {
    const std::optional<LockHolder> other = holder(file_);
    if (!other) continue;  // released in this moment
    const std::int64_t touched = stamp(file_);
    if (touched != last) {
      last = touched;
      seen = Clock::now();
    }
    const bool stands_still = seconds_since(seen) > timing_.stale;
    if (is_gone(*other) || stands_still) {
      log.warn("{}: {} is {}; taking over from it", file_.string(), other->text(),
               stands_still ? fmt::format("silent for {:.0f} s", timing_.stale) : "gone");
      take_over(*other);
      seen = Clock::now();
    } else if (told != other->token) {
      told = other->token;
      log.info("{}: {} makes this artefact; waiting for it", file_.string(), other->text());
    }
    if (!keep_waiting()) {
      fail(ExitCode::resume, "asked to stop while waiting for {}. Run the same command again to go on", other->text());
    }
    comm::note_progress();  // the other ranks wait for this one
    std::this_thread::sleep_for(std::chrono::duration<double>(timing_.look));
  }
  thread_ = std::thread([this] { beat(); });
}

ArtefactLock::~ArtefactLock() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ending_.notify_all();
  thread_.join();
  if (held()) ::unlink(file_.c_str());
}

bool ArtefactLock::held() const {
  try {
    const std::optional<LockHolder> now = holder(file_);
    return now && now->token == mine_.token;
  } catch (...) {
    return false;
  }
}

void ArtefactLock::beat() {
  std::unique_lock lock(mutex_);
  while (!ending_.wait_for(lock, std::chrono::duration<double>(timing_.beat), [&] { return end_; })) {
    // A file that is another's by now is left alone: touching it would keep a dead holder alive.
    if (held()) static_cast<void>(::utimensat(AT_FDCWD, file_.c_str(), nullptr, 0));
  }
}

}  // namespace moextract::run
