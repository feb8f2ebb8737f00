// Types and property lists of the shard format.
#include "store/shard_layout.h"

#include <fmt/format.h>

namespace moextract::store {

std::string tap_name(Tap tap) {
  return tap == Tap::x ? "x" : "h";
}

std::string dataset_name(std::int64_t layer, Tap tap) {
  return fmt::format("layers/{}/{}", layer, tap_name(tap));
}

Hdf5Handle float16_type() {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "copy a type");
  // Sign bit 15, five bits of exponent from bit 10, ten of mantissa from bit 0. Fields first: the size may only shrink
  // to what they fit in.
  checked(H5Tset_fields(type.get(), 15, 10, 5, 0, 10), "set the fields of float16");
  checked(H5Tset_ebias(type.get(), 15), "set the exponent of float16");
  checked(H5Tset_size(type.get(), 2), "set the size of float16");
  return type;
}

Hdf5Handle text_type(std::size_t length) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "copy a type");
  checked(H5Tset_size(type.get(), std::max<std::size_t>(1, length)), "set the length of a text");
  checked(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "set the padding of a text");
  checked(H5Tset_cset(type.get(), H5T_CSET_UTF8), "set the encoding of a text");
  return type;
}

Hdf5Handle shard_file_access() {
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "create a property list");
#if H5_VERSION_GE(1, 10, 7)
  checked(H5Pset_file_locking(access.get(), false, true), "switch file locking off");
#endif
  checked(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "fix the format version");
  // A file closes only when nothing in it is open: a forgotten id shows as an error, not as a half-written file.
  checked(H5Pset_fclose_degree(access.get(), H5F_CLOSE_SEMI), "set how files are closed");
  return access;
}

}  // namespace moextract::store
