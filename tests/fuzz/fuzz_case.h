// What the fuzz targets share: an input as a file, and what a parser may do with it.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace moextract::fuzz {

/// Bytes as a file in memory with a path. Parsers take paths, and a disk would be too slow.
class InputFile {
 public:
  explicit InputFile(std::span<const std::uint8_t> bytes) : descriptor_(::memfd_create("input", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || ::write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      std::abort();
    }
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A folder in memory, one for the process.
inline const std::filesystem::path& scratch_folder() {
  static const struct Folder {
    Folder() {
      std::string pattern = "/dev/shm/moextract-fuzz-XXXXXX";
      if (::mkdtemp(pattern.data()) == nullptr) std::abort();
      path = pattern;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  } folder;
  return folder.path;
}

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// How many inputs were accepted, told at the end: a target that refuses all of them tests nothing.
struct Accepted {
  ~Accepted() { std::fprintf(stderr, "stat::accepted: %ld\n", count); }
  long count = 0;
};
inline Accepted accepted;

/// Input is accepted, or refused by a UserError with a message. All else is a finding: another exception, a failed
/// assertion (BugError), memory errors, and memory beyond the limits that scripts/fuzz.sh sets.
template <class Body>
void accept_or_refuse(Body&& body) {
  try {
    body();
    ++accepted.count;
  } catch (const UserError& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
}

/// Keeps the compiler from leaving out the reads that lead to `bytes`.
inline void use(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<unsigned>(b);
  if (sum == ~0u) std::abort();  // nobody knows that it cannot be
}

}  // namespace moextract::fuzz
