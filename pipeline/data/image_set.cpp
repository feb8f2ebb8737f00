// Chooses the kind of an image set and does what all kinds share.
#include "data/image_set.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/hash.h"
#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/member_list.h"
#include "data/tar_files.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

ImageSetKind kind_of(const fs::path& source) {
  if (fs::is_directory(source)) {
    const bool classes = std::any_of(fs::directory_iterator(source), {}, [](const fs::directory_entry& entry) {
      std::error_code ignored;  // of a link to itself
      return entry.is_directory(ignored) && !entry.path().filename().string().starts_with('.');
    });
    return classes || tars_of(source).empty() ? ImageSetKind::folder : ImageSetKind::tar;
  }
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
  const auto by_name = [](const ClassedMember& a, const ClassedMember& b) { return a.id < b.id; };
  if (!std::is_sorted(members.begin(), members.end(), by_name)) std::sort(members.begin(), members.end(), by_name);
  for (std::size_t i = 1; i < members.size(); ++i) {
    if (members[i].id == members[i - 1].id) {
      fail(ExitCode::input, "{}: holds the member '{}' twice; pack it anew", params.source.string(), members[i].id);
    }
  }
  std::set<std::string> names;
  std::vector<std::string> ids;
  for (const ClassedMember& member : members) {
    if (names.empty() || *names.rbegin() != member.class_name) names.insert(member.class_name);
    ids.push_back(member.id);
  }
  const ClassNames classes = params.classes.empty() ? ClassNames(names) : ClassNames(params.classes);
  classes_ = classes.count();
  std::string last;
  std::int32_t label = -1;
  for (const std::int64_t i : select_members(ids, params)) {
    ClassedMember& member = members[static_cast<std::size_t>(i)];
    if (member.class_name != last) {  // neighbours are mostly of one class
      label = classes.index_of(member.class_name, params.source.string() + ": " + member.id);
      last = member.class_name;
    }
    entries_.push_back({std::move(member.id), label, member.offset, member.size, member.changed, member.part});
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

void SelectedImageSet::remark(const ImageSetParams& params, std::string_view what,
                              const std::vector<std::string>& members) {
  constexpr std::size_t kNamed = 5;
  if (members.empty()) return;
  const std::size_t named = std::min(kNamed, members.size());
  remarks_.push_back(fmt::format("{}: {} files {}: {}{}", params.source.string(), members.size(), what,
                                 fmt::join(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                                 members.size() > named ? ", ..." : ""));
}

void SelectedImageSet::remark_empty(const ImageSetParams& params) {
  std::vector<std::string> empty;
  for (const Entry& entry : entries_) {
    if (entry.size == 0) empty.push_back(entry.id);
  }
  remark(params, "are empty and cannot be decoded", empty);
}

double ImageSet::mean_stored_bytes() const {
  double bytes = 0;
  for (const Entry& entry : entries_) bytes += static_cast<double>(entry.size);
  return entries_.empty() ? 0 : bytes / static_cast<double>(entries_.size());
}

std::unique_ptr<ImageSet> open_image_set(const ImageSetParams& params) {
  if (params.source.empty())
    fail(ExitCode::input, "the image set has no source: name a folder, *.tar, *.csv or *idx3*");
  std::error_code error;
  if (!fs::exists(params.source, error) && tars_of(params.source).empty()) {
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
