#include "data/tar_files.h"

#include <fnmatch.h>

#include <algorithm>

#include "core/error.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

bool is_tar_name(const fs::path& path) {
  return path.extension() == ".tar" && !path.filename().string().starts_with('.');
}

}  // namespace

std::vector<fs::path> tars_of(const fs::path& source) {
  std::vector<fs::path> tars;
  std::error_code error;
  const bool folder = fs::is_directory(source, error);
  const std::string pattern = source.filename().string();
  if (!folder && pattern.find_first_of("*?") == pattern.npos) return tars;
  const fs::path parent = folder ? source : source.has_parent_path() ? source.parent_path() : fs::path(".");
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (!is_tar_name(entry.path()) || entry.is_directory(error)) continue;
    if (folder || ::fnmatch(pattern.c_str(), name.c_str(), FNM_PERIOD) == 0) tars.push_back(entry.path());
  }
  std::sort(tars.begin(), tars.end());
  return tars;
}

std::shared_ptr<const RandomAccessFile> TarFiles::open(std::size_t part, const FileState& listed) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(open_.begin(), open_.end(), [part](const auto& o) { return o.first == part; });
  if (found != open_.end()) {
    open_.splice(open_.begin(), open_, found);
    return open_.front().second;
  }
  auto file = std::make_shared<const RandomAccessFile>(paths_[part]);
  if (file->size() != listed.size || file_state(paths_[part]).changed != listed.changed) {
    fail(ExitCode::input, "{}: was changed after it was listed; run the same command again", paths_[part].string());
  }
  open_.emplace_front(part, file);
  if (open_.size() > kMostOpen) open_.pop_back();
  return file;
}

}  // namespace moextract::data
