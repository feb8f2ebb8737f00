#include "store/versions.h"

#include <fmt/format.h>

#include "store/hdf5_handle.h"

namespace moextract::store {

std::string hdf5_version() {
  prepare_hdf5();  // this call starts the library, and some of its settings have to be made before
  unsigned major = 0, minor = 0, release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) return "of unknown version";
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace moextract::store
