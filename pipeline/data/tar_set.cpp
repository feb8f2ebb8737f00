// Pictures read in place out of tar files; the name of a member's own folder is its class, whatever stands above it.
#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/listing.h"
#include "data/random_access_file.h"
#include "data/tar_files.h"
#include "data/tar_index.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(const fs::path& source) {
  std::vector<fs::path> tars = tars_of(source);
  if (!tars.empty()) return tars;
  if (fs::is_directory(source)) fail(ExitCode::input, "{}: holds no tar files; set another kind", source.string());
  return {source};
}

ListedPlace index_of(const fs::path& path, const std::string& name) {
  const FileState state = file_state(path);
  const RandomAccessFile file(path);
  ListedPlace place{name, state.size, state.changed, {}};
  for (TarMember& member : index_tar(file)) {
    place.members.push_back({std::move(member.name), member.offset, member.size, 0, member.link});
  }
  return place;
}

class TarSet final : public SelectedImageSet {
 public:
  explicit TarSet(const ImageSetParams& params) : files_(files_of(params.source)) {
    // One tar keeps its members' names; of several each name begins with its tar's.
    const bool several = files_.count() > 1 || files_.path(0) != params.source;
    std::vector<ListedPlace> places = index(params);
    std::vector<ClassedMember> members;
    std::vector<std::string> strangers;
    for (std::size_t part = 0; part < places.size(); ++part) {
      states_.push_back({places[part].size, places[part].changed});
      const std::string tar = files_.path(part).string(), stem = files_.path(part).stem().string();
      for (ListedMember& member : places[part].members) {
        const fs::path path(member.name);
        if (!is_picture_name(member.name)) {
          if (!path.filename().string().starts_with('.')) strangers.push_back(tar + ": " + member.name);
          continue;
        }
        if (member.link) {
          fail(ExitCode::input, "{}: the picture '{}' is a link; pack with tar --dereference --hard-dereference", tar,
               member.name);
        }
        std::string class_name = path.parent_path().filename().string();
        if (class_name.empty() && several) class_name = stem;
        if (class_name.empty()) {
          fail(ExitCode::input, "{}: the picture '{}' stands in no folder, whose name would be its class", tar,
               member.name);
        }
        members.push_back({several ? stem + "/" + member.name : std::move(member.name), std::move(class_name),
                           member.offset, member.size, 0, static_cast<std::int32_t>(part)});
      }
      places[part] = {};
    }
    if (members.empty()) fail(ExitCode::input, "{}: no .jpg, .jpeg or .png among its members", params.source.string());
    remark(params, "are no pictures by their names and are left out", strangers);
    take_classed(std::move(members), params);
    remark_empty(params);
    seal("tar", params);
  }

  std::vector<std::byte> read(std::int64_t index) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    const auto part = static_cast<std::size_t>(entry.part);
    return files_.open(part, states_[part])->read(entry.offset, entry.size);
  }

  Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    return decode_image(bytes, files_.path(static_cast<std::size_t>(entry.part)).string() + ": " + entry.id);
  }

 private:
  /// One place for each file, in their order; tars that a kept listing knows are not read again.
  std::vector<ListedPlace> index(const ImageSetParams& params) const {
    const fs::path listing = listing_file(params.listings, params.source);
    const fs::path folder = files_.path(0).parent_path();
    std::optional<std::vector<ListedPlace>> kept = load_listing(listing, folder);
    const auto is_of = [&](const std::vector<ListedPlace>& places) {
      if (places.size() != files_.count()) return false;
      for (std::size_t part = 0; part < places.size(); ++part) {
        if (places[part].name != files_.path(part).filename()) return false;
      }
      return true;
    };
    if (kept && is_of(*kept)) return std::move(*kept);
    const std::int64_t began = file_clock_now();
    std::vector<ListedPlace> places;
    for (std::size_t part = 0; part < files_.count(); ++part) {
      places.push_back(index_of(files_.path(part), files_.path(part).filename().string()));
    }
    save_listing(listing, places, began);
    return places;
  }

  TarFiles files_;
  std::vector<FileState> states_;  ///< of each file when it was listed
};

}  // namespace

std::unique_ptr<ImageSet> open_tar_set(const ImageSetParams& params) {
  return std::make_unique<TarSet>(params);
}

}  // namespace moextract::data
