// One opener a kind of image set; open_image_set chooses among them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/image_set.h"

namespace moextract::data {

/// A member whose class is known by name only: folder and tar.
struct ClassedMember {
  std::string id, class_name;
  std::int64_t offset = 0, size = 0;
};

/// What the kinds share: numbering classes, choosing members, fingerprint and summary.
class SelectedImageSet : public ImageSet {
 protected:
  /// Sorts the members by name, numbers the classes over ALL of them, then selects.
  void take_classed(std::vector<ClassedMember> members, const ImageSetParams& params);
  /// Selects among `entries`, in their order. classes_ must be set.
  void take(std::vector<Entry> entries, const ImageSetParams& params);
  /// Makes fingerprint and summary; call last. `stamps` (empty, or one an entry taken) adds what an Entry does not
  /// hold.
  void seal(std::string_view kind, const ImageSetParams& params, const std::vector<std::string>& stamps = {});
};

/// Time of a file's last change, for seal(). Throws UserError (input).
std::string change_time(const std::filesystem::path& file);

std::unique_ptr<ImageSet> open_folder_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_tar_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_idx_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_csv_set(const ImageSetParams& params);

}  // namespace moextract::data
