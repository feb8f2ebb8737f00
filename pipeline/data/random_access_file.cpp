#include "data/random_access_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace moextract::data {

RandomAccessFile::RandomAccessFile(const std::filesystem::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    fail(ExitCode::input, "{}: cannot open ({}); check the path and its permissions", path.string(),
         std::strerror(errno));
  }
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail(ExitCode::input, "{}: not a regular file", path.string());
  }
  size_ = status.st_size;
}

RandomAccessFile::~RandomAccessFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

RandomAccessFile::RandomAccessFile(RandomAccessFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

void RandomAccessFile::read(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      fail(ExitCode::input,
           "{}: cannot read at byte {} ({}): the disk or the network failed, which says nothing of the content. Look "
           "after it, then run the same command again",
           path_.string(), offset, std::strerror(errno));
    }
    if (got == 0) {
      fail(ExitCode::input, "{}: ends at byte {}, {} bytes too early; was it replaced or cut while in use?",
           path_.string(), offset, out.size());
    }
    offset += got;
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

std::vector<std::byte> RandomAccessFile::read(std::int64_t offset, std::int64_t count) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  read(offset, bytes);
  return bytes;
}

}  // namespace moextract::data
