// Activation shards. Bytes that are changed at random hardly ever pass the checksums of HDF5, so that most inputs here
// are lists of changes made through HDF5 itself to a good shard: attributes and datasets of other types, shapes and
// contents.
#include <fuzzer/FuzzedDataProvider.h>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "fuzz_case.h"
#include "store/activation_shard.h"
#include "store/hdf5_handle.h"
#include "store/shard_layout.h"

using namespace moextract;
using store::Hdf5Handle;

namespace {

constexpr std::array<const char*, 10> kAttributes{"format",  "format_version", "model_hash",  "data_fingerprint",
                                                  "seed",    "first_image",    "image_count", "layers",
                                                  "x_width", "h_width"};
constexpr std::array<const char*, 8> kDatasets{"rows/image",   "rows/token", "images/id",  "images/index",
                                               "images/label", "layers/0/x", "layers/0/h", "layers/3/x"};

/// A shard of two layers, three images and five rows, as bytes.
const std::string& good_shard(bool compressed) {
  const auto make = [](store::Compression compression) {
    const std::filesystem::path path = fuzz::scratch_folder() / "good.h5";
    store::ShardWriter writer(path, {"0123abcd", "images", 17, 10, 6, {{0, 3, 4}, {3, 2, 0}}}, compression);
    const std::vector<store::ShardImage> images{{10, "a", 0, {0, 2}}, {12, "b", 1, {1}}, {13, "c", 1, {0, 5}}};
    std::vector<std::vector<std::uint16_t>> rows;
    for (const int width : {3, 4, 2, 0}) rows.emplace_back(static_cast<std::size_t>(5 * width), std::uint16_t{0x3c00});
    writer.append(images, rows);
    writer.finish();
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  static const std::string plain = make(store::Compression::none), deflated = make(store::Compression::deflate);
  return compressed ? deflated : plain;
}

Hdf5Handle some_type(FuzzedDataProvider& input) {
  switch (input.ConsumeIntegralInRange(0, 7)) {
    case 0:
      return Hdf5Handle(H5Tcopy(H5T_STD_I64LE), H5Tclose, "copy");
    case 1:
      return Hdf5Handle(H5Tcopy(H5T_STD_U64LE), H5Tclose, "copy");
    case 2:
      return Hdf5Handle(H5Tcopy(H5T_STD_I32BE), H5Tclose, "copy");
    case 3:
      return Hdf5Handle(H5Tcopy(H5T_IEEE_F64LE), H5Tclose, "copy");
    case 4:
      return store::float16_type();
    case 5:
      return store::text_type(H5T_VARIABLE);
    case 6: {
      Hdf5Handle list(H5Tvlen_create(H5T_STD_I64LE), H5Tclose, "make");
      return list;
    }
    default:
      return store::text_type(input.ConsumeIntegralInRange<std::size_t>(1, 70000));
  }
}

/// Small numbers, and now and then the largest ones.
std::vector<hsize_t> some_shape(FuzzedDataProvider& input, bool small) {
  std::vector<hsize_t> shape;
  for (int rank = input.ConsumeIntegralInRange(0, 3); rank > 0; --rank) {
    shape.push_back(small || input.ConsumeProbability<float>() < 0.8f ? input.ConsumeIntegralInRange<hsize_t>(0, 9)
                                                                      : input.ConsumeIntegral<hsize_t>());
  }
  return shape;
}

hid_t made_space(const std::vector<hsize_t>& shape) {
  return shape.empty() ? H5Screate(H5S_SCALAR)
                       : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
}

std::vector<std::uint8_t> content(FuzzedDataProvider& input, std::size_t bytes) {
  std::vector<std::uint8_t> values = input.ConsumeBytes<std::uint8_t>(std::min<std::size_t>(bytes, 4096));
  values.resize(bytes);
  return values;
}

void change_attribute(FuzzedDataProvider& input, hid_t file) {
  const char* name = input.PickValueInArray(kAttributes);
  H5Adelete(file, name);
  const Hdf5Handle type = some_type(input);
  const std::vector<hsize_t> shape = some_shape(input, true);
  const Hdf5Handle space(made_space(shape), H5Sclose, "make a space");
  const hid_t id = H5Acreate2(file, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT);
  if (id < 0) return;
  const Hdf5Handle attribute(id, H5Aclose, "make an attribute");
  const auto count = static_cast<std::size_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space.get())));
  const bool variable = H5Tis_variable_str(type.get()) > 0 || H5Tget_class(type.get()) == H5T_VLEN;
  if (!variable && count > 0) H5Awrite(id, type.get(), content(input, count * H5Tget_size(type.get())).data());
}

void replace_dataset(FuzzedDataProvider& input, hid_t file) {
  const char* name = input.PickValueInArray(kDatasets);
  H5Ldelete(file, name, H5P_DEFAULT);
  const Hdf5Handle type = some_type(input);
  const std::vector<hsize_t> shape = some_shape(input, false);
  const Hdf5Handle space(made_space(shape), H5Sclose, "make a space");
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "make a list");
  if (!shape.empty() && input.ConsumeBool()) {
    std::vector<hsize_t> chunk;
    for (std::size_t i = 0; i < shape.size(); ++i) chunk.push_back(input.ConsumeIntegralInRange<hsize_t>(1, 70000));
    if (input.ConsumeBool()) std::copy(shape.begin() + 1, shape.end(), chunk.begin() + 1);
    H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
    if (input.ConsumeBool()) H5Pset_shuffle(creation.get());
    if (input.ConsumeBool()) H5Pset_deflate(creation.get(), 4);
    if (input.ConsumeBool()) H5Pset_fletcher32(creation.get());
    if (input.ConsumeBool()) H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_INCR);
  }
  const hid_t id = H5Dcreate2(file, name, type.get(), space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT);
  if (id >= 0) H5Dclose(id);
}

void change_values(FuzzedDataProvider& input, hid_t file) {
  const hid_t id = H5Dopen2(file, input.PickValueInArray(kDatasets), H5P_DEFAULT);
  if (id < 0) return;
  const Hdf5Handle dataset(id, H5Dclose, "open");
  const Hdf5Handle type(H5Dget_type(id), H5Tclose, "type");
  const Hdf5Handle space(H5Dget_space(id), H5Sclose, "space");
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  if (count < 1 || count > 100 || H5Tget_class(type.get()) == H5T_VLEN || H5Tis_variable_str(type.get()) > 0) return;
  const std::size_t bytes = static_cast<std::size_t>(count) * H5Tget_size(type.get());
  if (bytes < 1'000'000) H5Dwrite(id, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, content(input, bytes).data());
}

void change_through_hdf5(FuzzedDataProvider& input, const std::filesystem::path& path) {
  const Hdf5Handle access = store::shard_file_access();
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), H5Fclose, "open the good shard");
  for (int changes = 0; changes < 4 && input.remaining_bytes() > 0; ++changes) {
    switch (input.ConsumeIntegralInRange(0, 3)) {
      case 0:
        change_attribute(input, file.get());
        break;
      case 1:
        replace_dataset(input, file.get());
        break;
      case 2:
        change_values(input, file.get());
        break;
      default:
        H5Ldelete(file.get(), input.PickValueInArray(kDatasets), H5P_DEFAULT);
    }
  }
}

void read_all(const std::filesystem::path& path) {
  const store::ShardReader reader(path);
  static_cast<void>(reader.images());
  static_cast<void>(reader.tokens());
  static_cast<void>(reader.row_images());
  for (const store::ShardLayer& layer : reader.info().layers) {
    for (const store::Tap tap : {store::Tap::x, store::Tap::h}) {
      const std::int64_t width = reader.width(layer.layer, tap);
      if (width == 0) continue;
      std::vector<std::uint16_t> rows(static_cast<std::size_t>(reader.rows() * width));
      reader.read_rows(layer.layer, tap, 0, reader.rows(), rows);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  store::prepare_hdf5();
  // HDF5 asks for the file's real path, which a file of memory alone does not have.
  const std::filesystem::path path = fuzz::scratch_folder() / "input.h5";
  FuzzedDataProvider input(data, size);
  if (input.ConsumeIntegral<std::uint8_t>() == 0) {
    fuzz::put(path, input.ConsumeRemainingBytesAsString());  // the input itself is the file
  } else {
    fuzz::put(path, good_shard(input.ConsumeBool()));
    try {
      change_through_hdf5(input, path);
    } catch (const store::Hdf5Error&) {
      return 0;  // HDF5 refuses to make it
    }
  }
  fuzz::accept_or_refuse([&] { read_all(path); });
  return 0;
}
