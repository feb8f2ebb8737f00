// Sets of labelled pictures: a folder a class, tar files of the same layout, IDX (the MNIST family), a CSV of file
// names and labels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"

namespace moextract::data {

enum class ImageSetKind { automatic, folder, tar, idx, csv };

/// Members are put in order (folder and tar by name, the others as stored), then list, shuffle_seed, first and count
/// select. Class indices are those of the whole source, whatever is selected.
struct ImageSetParams {
  /// automatic: folder -> folder, *.tar or a folder of tars alone -> tar, *.csv -> csv, *idx3* -> idx
  ImageSetKind kind = ImageSetKind::automatic;
  /// Folder, tar file, CSV file or IDX image file (gzip or not). A folder's classes are its own subfolders; in a tar
  /// the class of a picture is the name of the folder it stands in, whatever stands above (train/cat/1.png: cat). Many
  /// tars: a folder that holds them, or a pattern of file names (train-*.tar); a picture in no folder then has the
  /// tar's name as its class.
  std::filesystem::path source;
  /// IDX: label file; empty: the image file's name with idx3 -> idx1 and images -> labels
  std::filesystem::path labels;
  /// Folder, tar: optional file of class names, one a line, in index order; empty: sorted names
  std::filesystem::path classes;
  std::filesystem::path list;          ///< optional file of member names, one a line: these members, in this order
  std::string file_column = "file";    ///< CSV
  std::string label_column = "label";  ///< CSV
  std::filesystem::path root;          ///< CSV: folder of the files; empty: the CSV's folder
  std::int64_t first = 0;              ///< skip this many
  std::int64_t count = 0;              ///< then take at most this many; 0: all
  std::int64_t shuffle_seed = -1;      ///< >= 0: a fixed permutation of the members before first/count
  /// Folder where the listings of folders and tars are kept; empty: they are made each time.
  std::filesystem::path listings;
};

/// Read-only after opening; const members may be called from several threads at once.
class ImageSet {
 public:
  virtual ~ImageSet() = default;
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  /// Name of a member, unique in the set: path in the folder or tar, "#<index>" for IDX.
  const std::string& id(std::int64_t index) const { return entries_.at(static_cast<std::size_t>(index)).id; }
  /// Class index, 0-based.
  std::int32_t label(std::int64_t index) const { return entries_.at(static_cast<std::size_t>(index)).label; }
  /// Number of classes; CSV and IDX: the largest label of the whole source, plus one.
  std::int64_t classes() const { return classes_; }
  /// A picture's bytes as they are stored: a JPEG or PNG file; of IDX its grey values. Waits for the disk. Throws
  /// UserError (input), never an ImageError, if the file cannot be read or is not the one that was listed.
  virtual std::vector<std::byte> read(std::int64_t index) const = 0;
  /// What read(index) gave, as a picture. Throws ImageError (bad picture).
  virtual Image decode(std::int64_t index, std::span<const std::byte> bytes) const = 0;
  /// Reads and decodes.
  Image load(std::int64_t index) const { return decode(index, read(index)); }
  /// Bytes that read() gives of a picture on average, as listed.
  double mean_stored_bytes() const;
  /// Hash of what determines the content: member names, labels, sizes and file times or, for tar and IDX, offsets and
  /// sizes.
  const std::string& fingerprint() const { return fingerprint_; }
  /// One line for logs: kind, source, number of images and classes.
  std::string summary() const { return summary_; }
  /// What looks wrong and is no error: empty files, files that are no pictures, links that lead nowhere; one line each,
  /// with the first names.
  const std::vector<std::string>& remarks() const { return remarks_; }

 protected:
  struct Entry {
    std::string id;
    std::int32_t label = 0;
    std::int64_t offset = 0,
                 size = 0;     ///< offset: position of the data in a tar, number in an IDX file; size: stored bytes
    std::int64_t changed = 0;  ///< folder: time of the last change
    std::int32_t part = 0;     ///< tar: which of them
  };
  std::vector<Entry> entries_;
  std::int64_t classes_ = 0;
  std::string fingerprint_, summary_;
  std::vector<std::string> remarks_;
};

/// Throws UserError (input) naming file, line or member and the next step.
std::unique_ptr<ImageSet> open_image_set(const ImageSetParams& params);

}  // namespace moextract::data
