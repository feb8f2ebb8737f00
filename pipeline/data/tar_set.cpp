// Pictures read in place out of a tar file; the name of a member's own folder is its class, whatever stands above it.
#include "data/class_names.h"
#include "data/image_set_kinds.h"
#include "data/random_access_file.h"
#include "data/tar_index.h"

namespace moextract::data {
namespace {

class TarSet final : public SelectedImageSet {
 public:
  explicit TarSet(const ImageSetParams& params) : file_(params.source) {
    std::vector<ClassedMember> members;
    for (TarMember& member : index_tar(file_)) {
      const std::filesystem::path path(member.name);
      if (!is_picture_name(path)) continue;
      if (member.link) {
        fail(ExitCode::input, "{}: the picture '{}' is a link; pack with tar --dereference --hard-dereference",
             params.source.string(), member.name);
      }
      std::string class_name = path.parent_path().filename().string();
      if (class_name.empty()) {
        fail(ExitCode::input, "{}: the picture '{}' stands in no folder, whose name would be its class",
             params.source.string(), member.name);
      }
      members.push_back({std::move(member.name), std::move(class_name), member.offset, member.size});
    }
    if (members.empty()) fail(ExitCode::input, "{}: no .jpg, .jpeg or .png among its members", params.source.string());
    take_classed(std::move(members), params);
    seal("tar", params);
  }

  Image load(std::int64_t index) const override {
    const Entry& entry = entries_.at(static_cast<std::size_t>(index));
    return decode_image(file_.read(entry.offset, entry.size), file_.path().string() + ": " + entry.id);
  }

 private:
  RandomAccessFile file_;
};

}  // namespace

std::unique_ptr<ImageSet> open_tar_set(const ImageSetParams& params) {
  return std::make_unique<TarSet>(params);
}

}  // namespace moextract::data
