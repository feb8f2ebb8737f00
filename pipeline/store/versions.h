// Which libraries the files are written with.
#pragma once

#include <string>

namespace moextract::store {

/// Of the HDF5 library in this process: "1.10.8".
std::string hdf5_version();

}  // namespace moextract::store
