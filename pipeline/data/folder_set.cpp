// A folder a class, as torchvision's ImageFolder reads it: the classes are the source's own subfolders, their pictures
// may lie deeper.
#include <filesystem>
#include <map>
#include <optional>

#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/listing.h"
#include "data/random_access_file.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

class FolderSet final : public SelectedImageSet {
 public:
  explicit FolderSet(const ImageSetParams& params)
      : source_(params.source), listing_(listing_file(params.listings, params.source)) {
    if (!fs::is_directory(source_)) fail(ExitCode::input, "{}: not a folder; set another kind", source_.string());
    std::optional<std::vector<ListedPlace>> places = load_listing(listing_, source_);
    if (!places) {
      const std::int64_t began = file_clock_now();
      places = list_folders(source_);
      save_listing(listing_, *places, began);
    }
    take_classed(members_of(std::move(*places), params), params);
    std::vector<std::string> stamps;
    for (const Entry& entry : entries_) stamps.push_back(std::to_string(entry.changed));
    remark_empty(params);
    seal("folder", params, stamps);
  }

  std::vector<std::byte> read(std::int64_t index) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    const RandomAccessFile file = open(source_ / entry.id);
    // The listing may be an old one, and the set's fingerprint says what it says.
    if (file.size() != entry.size || file_state(file.path()).changed != entry.changed) {
      forget_listing();
      fail(ExitCode::input, "{}: was changed after it was listed; run the same command again", file.path().string());
    }
    return file.read(0, file.size());
  }

  Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    return decode_image(bytes, (source_ / id(index)).string());
  }

 private:
  RandomAccessFile open(const fs::path& path) const {
    try {
      return RandomAccessFile(path);
    } catch (const UserError& error) {
      std::error_code unknown;
      if (fs::exists(path, unknown) || unknown) throw;
      forget_listing();
      fail(ExitCode::input, "{}. It was there when the folder was listed; put it back, or run the same command again",
           error.what());
    }
  }

  void forget_listing() const {
    std::error_code ignored;
    if (!listing_.empty()) fs::remove(listing_, ignored);
  }

  std::vector<ClassedMember> members_of(std::vector<ListedPlace> places, const ImageSetParams& params) {
    std::vector<ClassedMember> members;
    std::map<std::string, std::size_t> pictures_of;  // by class folder
    std::vector<std::string> strangers, loose, dangling;
    for (ListedPlace& place : places) {
      const std::string class_name = place.name.substr(0, place.name.find('/'));
      std::size_t& pictures = pictures_of[class_name];
      for (ListedMember& file : place.members) {
        std::string id = place.name.empty() ? file.name : place.name + "/" + file.name;
        if (file.link) {
          if (file.name.starts_with('.')) continue;
          // It may have been a class folder, without which the classes after it have other indices.
          if (place.name.empty() && params.classes.empty() && !is_picture_name(file.name)) {
            fail(ExitCode::input,
                 "{}: the link leads nowhere; if it is a class folder, the classes after it would get other indices. "
                 "Mend or remove it, or give a file of class names (classes)",
                 (source_ / id).string());
          }
          dangling.push_back(std::move(id));
        } else if (!is_picture_name(file.name)) {
          if (!file.name.starts_with('.')) strangers.push_back(std::move(id));
        } else if (place.name.empty()) {
          loose.push_back(std::move(id));
        } else {
          members.push_back({std::move(id), class_name, 0, file.size, file.changed, 0});
          ++pictures;
        }
      }
      place = {};
    }
    if (members.empty()) {
      fail(ExitCode::input, "{}: no class folders with .jpg, .jpeg or .png in them{}", source_.string(),
           loose.empty() ? ""
                         : fmt::format("; the {} pictures in the folder itself have no class: sort them into one "
                                       "folder a class, or name their labels in a CSV",
                                       loose.size()));
    }
    for (const auto& [class_name, pictures] : pictures_of) {
      // Left out, it would shift the indices of all classes after it; taken for a class, it might be none.
      if (pictures == 0 && !class_name.empty() && params.classes.empty()) {
        fail(ExitCode::input,
             "{}: the class folder holds no .jpg, .jpeg or .png; remove it, or give a file of class names (classes)",
             (source_ / class_name).string());
      }
    }
    remark(params, "are no pictures by their names and are left out", strangers);
    remark(params, "stand in no class folder and are left out", loose);
    remark(params, "are links that lead nowhere and are left out", dangling);
    return members;
  }

  fs::path source_, listing_;
};

}  // namespace

std::unique_ptr<ImageSet> open_folder_set(const ImageSetParams& params) {
  return std::make_unique<FolderSet>(params);
}

}  // namespace moextract::data
