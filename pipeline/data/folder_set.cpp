// A folder a class, as torchvision's ImageFolder reads it: the classes are the source's own subfolders, their pictures
// may lie deeper.
#include <filesystem>

#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/random_access_file.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

class FolderSet final : public SelectedImageSet {
 public:
  explicit FolderSet(const ImageSetParams& params) : source_(params.source) {
    if (!fs::is_directory(source_)) fail(ExitCode::input, "{}: not a folder; set another kind", source_.string());
    std::vector<ClassedMember> members;
    try {
      members = list_members(params);
    } catch (const fs::filesystem_error& error) {
      fail(ExitCode::input, "{}: cannot list the folder ({})", source_.string(), error.what());
    }
    take_classed(std::move(members), params);
    std::vector<std::string> stamps;
    for (const Entry& entry : entries_) stamps.push_back(change_time(source_ / entry.id));
    seal("folder", params, stamps);
  }

  Image load(std::int64_t index) const override {
    const RandomAccessFile file(source_ / id(index));
    return decode_image(file.read(0, file.size()), file.path().string());
  }

 private:
  std::vector<ClassedMember> list_members(const ImageSetParams& params) const {
    std::vector<ClassedMember> members;
    std::int64_t loose = 0;
    for (const fs::directory_entry& folder : fs::directory_iterator(source_)) {
      const std::string class_name = folder.path().filename().string();
      if (!folder.is_directory()) {
        loose += is_picture_name(folder.path());
        continue;
      }
      if (class_name.starts_with('.')) continue;
      const std::size_t before = members.size();
      const auto options = fs::directory_options::follow_directory_symlink;
      for (const fs::directory_entry& file : fs::recursive_directory_iterator(folder.path(), options)) {
        if (!is_picture_name(file.path()) || file.is_directory()) continue;
        members.push_back({file.path().lexically_relative(source_).generic_string(), class_name, 0,
                           static_cast<std::int64_t>(file.file_size())});
      }
      // Left out, it would shift the indices of all classes after it; taken for a class, it might be none.
      if (members.size() == before && params.classes.empty()) {
        fail(ExitCode::input,
             "{}: the class folder holds no .jpg, .jpeg or .png; remove it, or give a file of class names (classes)",
             folder.path().string());
      }
    }
    if (members.empty()) {
      fail(ExitCode::input, "{}: no class folders with .jpg, .jpeg or .png in them{}", source_.string(),
           loose > 0
               ? fmt::format("; the {} pictures in the folder itself have no class: sort them into one folder a class, "
                             "or name their labels in a CSV",
                             loose)
               : "");
    }
    return members;
  }

  fs::path source_;
};

}  // namespace

std::unique_ptr<ImageSet> open_folder_set(const ImageSetParams& params) {
  return std::make_unique<FolderSet>(params);
}

}  // namespace moextract::data
