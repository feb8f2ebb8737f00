// A dataset that grows by rows: collects them in memory and hands HDF5 whole chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "store/activation_shard.h"
#include "store/hdf5_handle.h"

namespace moextract::store {

/// Chunks go to the file in the order in which they become full, so the bytes depend on the sequence of rows alone and
/// not on how it was cut into appends. Memory: one chunk. The dataset is created with the first full chunk, or in
/// finish(), where a chunk of a small dataset is as small as its rows.
class RowDataset {
 public:
  /// `file` and `type` must outlive this. `columns` 0: a one-dimensional dataset. Intermediate groups must exist.
  RowDataset(hid_t file, std::string name, hid_t type, std::int64_t columns, Compression compression);

  /// Whole rows as raw bytes in the type of the dataset. Throws Hdf5Error.
  void append(std::span<const std::byte> rows);
  /// Writes what is left and closes the dataset. Throws Hdf5Error.
  void finish();

 private:
  void create(std::int64_t rows_of_chunk);
  void write_buffer();

  hid_t file_, type_;
  std::string name_;
  std::int64_t columns_;
  Compression compression_;
  std::size_t row_bytes_, chunk_bytes_;
  std::int64_t written_ = 0;
  std::vector<std::byte> buffer_;
  Hdf5Handle dataset_;
};

}  // namespace moextract::store
