// The board of ranks that are processes: one small file a rank, and one for the bell.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "comm/board.h"
#include "core/error.h"
#include "core/file.h"

namespace moextract::comm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kBell = "bell";
constexpr const char* kVerdict = "verdict";
constexpr std::string_view kEnd = "\n#end\n";  // a reader that meets half a write does not find it

std::string rank_name(int rank) {
  return fmt::format("rank-{}", rank);
}

/// Failures are not reported: this is called when the job is in trouble already, and no answer is an answer.
void overwrite(const fs::path& path, const std::string& text) noexcept {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  const std::string all = text + std::string(kEnd);
  if (::pwrite(fd, all.data(), all.size(), 0) == static_cast<ssize_t>(all.size())) {
    static_cast<void>(::ftruncate(fd, static_cast<off_t>(all.size())) == 0);
  }
  ::close(fd);
}

std::optional<std::string> read_whole(const fs::path& path) noexcept {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char buffer[1024];
  const ssize_t n = ::pread(fd, buffer, sizeof(buffer), 0);
  ::close(fd);
  if (n <= 0) return std::nullopt;
  const std::string_view text(buffer, static_cast<std::size_t>(n));
  const std::size_t end = text.find(kEnd);
  if (end == std::string_view::npos) return std::nullopt;
  return std::string(text.substr(0, end));
}

class FolderBoard final : public Board {
 public:
  explicit FolderBoard(fs::path folder) : folder_(std::move(folder)) {}

  std::int64_t ring() override {
    const std::int64_t number = bell() + 1;
    overwrite(folder_ / kBell, std::to_string(number));
    raise_to(number);
    return number;
  }
  std::int64_t bell() override {
    const auto text = read_whole(folder_ / kBell);
    // Half a write or a folder that is gone: the last number stands.
    return raise_to(text ? std::strtoll(text->c_str(), nullptr, 10) : 0);
  }
  void publish(int rank, const RankState& s) override {
    overwrite(folder_ / rank_name(rank),
              fmt::format("{} {} {} {} {} {:.3f} {} {} {}", s.answer, s.waiting ? 1 : 0, s.communicator, s.sequence,
                          s.bytes, s.seconds, s.progress, s.ended_section, s.operation));
  }
  std::optional<RankState> read(int rank) override {
    const auto text = read_whole(folder_ / rank_name(rank));
    if (!text) return std::nullopt;
    std::istringstream words(*text);
    RankState s;
    words >> s.answer >> s.waiting >> s.communicator >> s.sequence >> s.bytes >> s.seconds >> s.progress >>
        s.ended_section >> std::ws;
    if (!words && !words.eof()) return std::nullopt;
    std::getline(words, s.operation);
    return s;
  }
  bool claim_verdict() override {
    const int fd = ::open((folder_ / kVerdict).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) ::close(fd);
    // A folder that cannot be written to must not silence the cause.
    return fd >= 0 || errno != EEXIST;
  }
  bool has_verdict() override { return ::access((folder_ / kVerdict).c_str(), F_OK) == 0; }

 private:
  std::int64_t raise_to(std::int64_t number) {
    std::int64_t last = last_bell_.load();
    while (number > last && !last_bell_.compare_exchange_weak(last, number)) {
    }
    return std::max(number, last);
  }

  fs::path folder_;
  std::atomic<std::int64_t> last_bell_{0};  // the monitor and the main thread ask
};

}  // namespace

void create_board_folder(const fs::path& folder, int ranks) {
  make_folder(folder);
  const auto create = [&](const std::string& name, const std::string& text) {
    const int fd = ::open((folder / name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
      fail(ExitCode::storage, "{}: cannot be created ({}). Free space or mend the permissions, then run again",
           (folder / name).string(), std::strerror(errno));
    }
    ::close(fd);
    overwrite(folder / name, text);
  };
  create(kBell, "0");
  for (int rank = 0; rank < ranks; ++rank) create(rank_name(rank), "0 0 0 0 0 0 0 0 start");
}

std::shared_ptr<Board> open_folder_board(const fs::path& folder) {
  const int fd = ::open((folder / kBell).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    fail(ExitCode::storage,
         "{}: rank 0 has made this folder, but here it cannot be opened ({}). run.store must be on a file system that "
         "all hosts of the job share and may write to",
         folder.string(), std::strerror(errno));
  }
  ::close(fd);
  return std::make_shared<FolderBoard>(folder);
}

}  // namespace moextract::comm
