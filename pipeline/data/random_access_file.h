// A file read by position, from any number of threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace moextract::data {

/// Owns the descriptor. All errors are UserError (input) that name the path and the system's reason.
class RandomAccessFile {
 public:
  explicit RandomAccessFile(const std::filesystem::path& path);
  ~RandomAccessFile();
  RandomAccessFile(RandomAccessFile&& other) noexcept;
  RandomAccessFile& operator=(RandomAccessFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Bytes, as the file was when it was opened.
  std::int64_t size() const { return size_; }
  /// Fills `out` from `offset`. A file that ends before is an error.
  void read(std::int64_t offset, std::span<std::byte> out) const;
  std::vector<std::byte> read(std::int64_t offset, std::int64_t count) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace moextract::data
