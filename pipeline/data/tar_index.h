// Where the files of a tar archive stand: one pass over the headers, nothing unpacked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/random_access_file.h"

namespace moextract::data {

struct TarMember {
  std::string name;  ///< without a leading "./"
  std::int64_t offset = 0, size = 0;
  bool link = false;  ///< a hard or symbolic link: no data of its own
};

/// Files and links in the archive's order; folders and devices are left out. Reads ustar, GNU (long names, large sizes)
/// and pax (path, size). Throws UserError (input) naming the byte offset of a header that is not one, for a compressed
/// or sparse archive, and for one that is cut short (a tar ends in two blocks of zeros).
std::vector<TarMember> index_tar(const RandomAccessFile& file);

}  // namespace moextract::data
