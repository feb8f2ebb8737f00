// The tar files of an image set: which they are, and their descriptors, of which a process may have few.
#pragma once

#include <cstddef>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "data/listing.h"
#include "data/random_access_file.h"

namespace moextract::data {

/// Tar files that `source` stands for, sorted: those of a folder (not of its subfolders), or those that match a pattern
/// of file names ('*' any text, '?' any character). Nothing if it is neither, or there are none.
std::vector<std::filesystem::path> tars_of(const std::filesystem::path& source);

/// Files opened when they are read, those read last kept open. Any thread may ask.
class TarFiles {
 public:
  explicit TarFiles(std::vector<std::filesystem::path> paths) : paths_(std::move(paths)) {}
  const std::filesystem::path& path(std::size_t part) const { return paths_[part]; }
  std::size_t count() const { return paths_.size(); }
  /// Throws UserError (input) if the file cannot be opened or is not in the state that it was listed in.
  std::shared_ptr<const RandomAccessFile> open(std::size_t part, const FileState& listed) const;

 private:
  static constexpr std::size_t kMostOpen = 128;
  std::vector<std::filesystem::path> paths_;
  mutable std::mutex mutex_;
  mutable std::list<std::pair<std::size_t, std::shared_ptr<const RandomAccessFile>>> open_;  // the one used last first
};

}  // namespace moextract::data
