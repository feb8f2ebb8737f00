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
  std::int64_t offset = 0, size = 0, changed = 0;
  std::int32_t part = 0;
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
  /// Adds a remark about the members named, if there are any.
  void remark(const ImageSetParams& params, std::string_view what, const std::vector<std::string>& members);
  /// About members taken that have no bytes.
  void remark_empty(const ImageSetParams& params);
};

std::unique_ptr<ImageSet> open_folder_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_tar_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_idx_set(const ImageSetParams& params);
std::unique_ptr<ImageSet> open_csv_set(const ImageSetParams& params);

}  // namespace moextract::data
