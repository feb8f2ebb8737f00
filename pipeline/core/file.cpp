#include "core/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace moextract {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTemporaryMark = ".part.";

fs::path temporary_path(const fs::path& path) {
  char host[64] = "host";
  gethostname(host, sizeof(host) - 1);
  return path.string() + std::string(kTemporaryMark) + host + "." + std::to_string(getpid());
}

[[noreturn]] void fail_storage(const fs::path& path, const char* action, int error) {
  fail(ExitCode::storage, "{}: cannot {} ({}). Free space or mend the permissions, then run the same command again.",
       path.string(), action, std::strerror(error));
}

/// Owns a descriptor; the destructor does not report.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void sync_path(const fs::path& path, int flags) {
  const Descriptor fd(::open(path.c_str(), flags));
  if (fd.get() < 0) fail_storage(path, "open", errno);
  // EINVAL: a file system that cannot sync this kind of file; nothing better can be done there.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) fail_storage(path, "fsync", errno);
}

}  // namespace

std::string read_text_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ExitCode::input, "{}: cannot be read ({})", path.string(), std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) fail(ExitCode::input, "{}: reading failed ({})", path.string(), std::strerror(errno));
  return std::move(text).str();
}

void write_file_atomically(const fs::path& path, const std::function<void(const fs::path&)>& write) {
  const fs::path temporary = temporary_path(path);
  try {
    write(temporary);
    sync_path(temporary, O_RDONLY);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_storage(path, "rename to its final name", errno);
    sync_path(path.has_parent_path() ? path.parent_path() : fs::path("."), O_RDONLY | O_DIRECTORY);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> content) {
  write_file_atomically(path, [&](const fs::path& temporary) {
    const Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (fd.get() < 0) fail_storage(temporary, "create", errno);
    std::size_t done = 0;
    while (done < content.size()) {
      const ssize_t n = ::write(fd.get(), content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_storage(temporary, "write", errno);
      done += static_cast<std::size_t>(n);
    }
  });
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_file_atomically(path, std::as_bytes(std::span(content.data(), content.size())));
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_storage(path, "create the folder", error.value());
}

bool is_temporary_name(const fs::path& path) {
  return path.filename().string().find(kTemporaryMark) != std::string::npos;
}

}  // namespace moextract
