// What the writer and the reader of a shard agree on: names, types, chunking and how files are opened.
#pragma once

#include <algorithm>
#include <cstdint>

#include "store/activation_shard.h"
#include "store/hdf5_handle.h"

namespace moextract::store {

inline constexpr const char* kShardFormat = "moextract-activations";
inline constexpr std::int64_t kShardVersion = 1;
/// Byte 8 of the file. Version 3 (HDF5 1.10) is the one whose metadata carry checksums throughout.
inline constexpr unsigned char kSuperblockVersion = 3;
/// A chunk is what one read fetches and one checksum guards; small enough for a cache, large enough for a disk.
inline constexpr std::int64_t kChunkBytes = 256 * 1024;

/// The fastest one: higher levels gain a percent or two on activations.
inline constexpr unsigned kDeflateLevel = 1;

/// Rows of a full chunk.
inline std::int64_t chunk_rows(std::int64_t row_bytes) {
  return std::max<std::int64_t>(1, kChunkBytes / row_bytes);
}

/// "layers/<l>/x"
std::string dataset_name(std::int64_t layer, Tap tap);

/// IEEE binary16, little endian: what h5py and numpy call float16.
Hdf5Handle float16_type();
/// UTF-8 of fixed length, padded with NUL. Not of variable length: those live in a heap that has no checksum.
Hdf5Handle text_type(std::size_t length);

/// Locking off (network file systems refuse it), format bounds fixed (the bytes do not depend on the HDF5 version's
/// taste).
Hdf5Handle shard_file_access();

}  // namespace moextract::store
