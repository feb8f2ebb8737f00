// Chunked, extendable, checksummed datasets.
#include "store/row_dataset.h"

#include <algorithm>

#include "core/error.h"
#include "store/shard_layout.h"

namespace moextract::store {

RowDataset::RowDataset(hid_t file, std::string name, hid_t type, std::int64_t columns, Compression compression)
    : file_(file), type_(type), name_(std::move(name)), columns_(columns), compression_(compression) {
  row_bytes_ = H5Tget_size(type) * static_cast<std::size_t>(std::max<std::int64_t>(1, columns));
  chunk_bytes_ = static_cast<std::size_t>(chunk_rows(static_cast<std::int64_t>(row_bytes_))) * row_bytes_;
}

void RowDataset::append(std::span<const std::byte> rows) {
  MOEX_ASSERT(rows.size() % row_bytes_ == 0, "only whole rows are appended");
  while (!rows.empty()) {
    const std::size_t n = std::min(rows.size(), chunk_bytes_ - buffer_.size());
    buffer_.insert(buffer_.end(), rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(n));
    rows = rows.subspan(n);
    if (buffer_.size() == chunk_bytes_) write_buffer();
  }
}

void RowDataset::finish() {
  if (!dataset_ || !buffer_.empty()) write_buffer();
  dataset_.close("close a dataset");
}

void RowDataset::create(std::int64_t rows_of_chunk) {
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "create a property list");
  checked(H5Pset_obj_track_times(creation.get(), false), "switch timestamps off");
  const int rank = columns_ > 0 ? 2 : 1;
  const hsize_t chunk[2] = {static_cast<hsize_t>(rows_of_chunk), static_cast<hsize_t>(columns_)};
  checked(H5Pset_chunk(creation.get(), rank, chunk), "set the chunk size");
  if (compression_ == Compression::deflate) {
    checked(H5Pset_shuffle(creation.get()), "switch compression on");
    checked(H5Pset_deflate(creation.get(), kDeflateLevel), "switch compression on");
  }
  checked(H5Pset_fletcher32(creation.get()), "switch checksums on");  // last: over what is stored
  const hsize_t none[2] = {0, static_cast<hsize_t>(columns_)};
  const hsize_t most[2] = {H5S_UNLIMITED, static_cast<hsize_t>(columns_)};
  const Hdf5Handle space(H5Screate_simple(rank, none, most), H5Sclose, "create a dataspace");
  // Chunks are written whole, so caching them would only double the memory.
  const Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, "create a property list");
  checked(H5Pset_chunk_cache(access.get(), H5D_CHUNK_CACHE_NSLOTS_DEFAULT, 0, H5D_CHUNK_CACHE_W0_DEFAULT),
          "set the chunk cache");
  dataset_ = Hdf5Handle(H5Dcreate2(file_, name_.c_str(), type_, space.get(), H5P_DEFAULT, creation.get(), access.get()),
                        H5Dclose, "create a dataset");
}

void RowDataset::write_buffer() {
  const auto rows = static_cast<std::int64_t>(buffer_.size() / row_bytes_);
  if (!dataset_) create(std::max<std::int64_t>(1, rows));
  if (rows == 0) return;
  const int rank = columns_ > 0 ? 2 : 1;
  const hsize_t start[2] = {static_cast<hsize_t>(written_), 0};
  const hsize_t count[2] = {static_cast<hsize_t>(rows), static_cast<hsize_t>(columns_)};
  const hsize_t extent[2] = {static_cast<hsize_t>(written_ + rows), static_cast<hsize_t>(columns_)};
  checked(H5Dset_extent(dataset_.get(), extent), "extend a dataset");
  const Hdf5Handle in_file(H5Dget_space(dataset_.get()), H5Sclose, "get a dataspace");
  checked(H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, start, nullptr, count, nullptr), "select rows");
  const Hdf5Handle in_memory(H5Screate_simple(rank, count, nullptr), H5Sclose, "create a dataspace");
  checked(H5Dwrite(dataset_.get(), type_, in_memory.get(), in_file.get(), H5P_DEFAULT, buffer_.data()), "write rows");
  written_ += rows;
  buffer_.clear();
}

}  // namespace moextract::store
