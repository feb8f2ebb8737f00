// Chooses the kind of an image set and does what all kinds share.
#include "data/image_set.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/hash.h"
#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/member_list.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

ImageSetKind kind_of(const fs::path& source) {
  if (fs::is_directory(source)) return ImageSetKind::folder;
  const std::string name = source.filename().string();
  // index_tar says what to do about a compressed one.
  if (source.extension() == ".tar" || name.ends_with(".tar.gz") || name.ends_with(".tgz")) return ImageSetKind::tar;
  if (source.extension() == ".csv") return ImageSetKind::csv;
  if (name.find("idx3") != name.npos) return ImageSetKind::idx;
  fail(ExitCode::input,
       "{}: cannot tell what kind of image set this is: expected a folder, *.tar, *.csv or *idx3*; set the kind",
       source.string());
}

}  // namespace

void SelectedImageSet::take_classed(std::vector<ClassedMember> members, const ImageSetParams& params) {
  std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (std::size_t i = 1; i < members.size(); ++i) {
    if (members[i].id == members[i - 1].id) {
      fail(ExitCode::input, "{}: holds the member '{}' twice; pack it anew", params.source.string(), members[i].id);
    }
  }
  std::set<std::string> names;
  std::vector<std::string> ids;
  for (const ClassedMember& member : members) {
    names.insert(member.class_name);
    ids.push_back(member.id);
  }
  const ClassNames classes = params.classes.empty() ? ClassNames(names) : ClassNames(params.classes);
  classes_ = classes.count();
  for (const std::int64_t i : select_members(ids, params)) {
    ClassedMember& member = members[static_cast<std::size_t>(i)];
    const std::int32_t label = classes.index_of(member.class_name, params.source.string() + ": " + member.id);
    entries_.push_back({std::move(member.id), label, member.offset, member.size});
  }
}

void SelectedImageSet::take(std::vector<Entry> entries, const ImageSetParams& params) {
  std::vector<std::string> ids;
  for (const Entry& entry : entries) ids.push_back(entry.id);
  for (const std::int64_t i : select_members(ids, params)) {
    entries_.push_back(std::move(entries[static_cast<std::size_t>(i)]));
  }
}

void SelectedImageSet::seal(std::string_view kind, const ImageSetParams& params,
                            const std::vector<std::string>& stamps) {
  MOEX_ASSERT(stamps.empty() || stamps.size() == entries_.size(), "one stamp an entry");
  Hasher hasher;
  hasher.add(fmt::format("{} {} classes\n", kind, classes_));
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    hasher.add(fmt::format("{} {} {} {} {} {}\n", entry.id.size(), entry.id, entry.label, entry.offset, entry.size,
                           stamps.empty() ? "" : stamps[i]));
  }
  fingerprint_ = hasher.hex();
  summary_ = fmt::format("{} {}: {} images, {} classes", kind, params.source.string(), size(), classes_);
}

std::string change_time(const fs::path& file) {
  std::error_code error;
  const auto time = fs::last_write_time(file, error);
  if (error) fail(ExitCode::input, "{}: cannot be read ({})", file.string(), error.message());
  return std::to_string(time.time_since_epoch().count());
}

std::unique_ptr<ImageSet> open_image_set(const ImageSetParams& params) {
  if (params.source.empty())
    fail(ExitCode::input, "the image set has no source: name a folder, *.tar, *.csv or *idx3*");
  std::error_code error;
  if (!fs::exists(params.source, error)) {
    fail(ExitCode::input, "{}: no such file or folder; check the source of the image set", params.source.string());
  }
  switch (params.kind == ImageSetKind::automatic ? kind_of(params.source) : params.kind) {
    case ImageSetKind::folder:
      return open_folder_set(params);
    case ImageSetKind::tar:
      return open_tar_set(params);
    case ImageSetKind::idx:
      return open_idx_set(params);
    case ImageSetKind::csv:
      return open_csv_set(params);
    case ImageSetKind::automatic:
      break;
  }
  MOEX_ASSERT(false, "unknown kind of image set");
  return nullptr;
}

}  // namespace moextract::data
