#include "tests/stages/shard_rows.h"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "comm/backends.h"
#include "core/float16.h"
#include "run/log.h"
#include "store/activation_shard.h"

namespace moextract::stages::test {
namespace fs = std::filesystem;
namespace {

std::vector<std::uint16_t> halves(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits(values.size());
  to_float16(values, bits);
  return bits;
}

/// Puts `values` into a dataset of [rows, width] as they are.
void overwrite(const fs::path& path, const char* dataset, const std::vector<float>& values) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t data = H5Dopen2(file, dataset, H5P_DEFAULT), type = H5Dget_type(data);
  ASSERT_GE(H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, halves(values).data()), 0);
  H5Tclose(type);
  H5Dclose(data);
  ASSERT_GE(H5Fclose(file), 0);
}

std::vector<float> made_finite(std::vector<float> values) {
  for (float& value : values) {
    if (!std::isfinite(value)) value = 0;
  }
  return values;
}

}  // namespace

void write_shard(const fs::path& path, std::int64_t first_image, const std::vector<float>& x, std::int64_t x_width,
                 const std::vector<float>& h, std::int64_t h_width) {
  const std::int64_t rows =
      x_width > 0 ? static_cast<std::int64_t>(x.size()) / x_width : static_cast<std::int64_t>(h.size()) / h_width;
  std::vector<store::ShardImage> images;
  for (std::int64_t i = 0; i < rows; ++i) images.push_back({first_image + i, std::to_string(first_image + i), 0, {0}});
  store::ShardWriter writer(path, {"0123abcd", "images", 17, first_image, rows, {{0, x_width, h_width}}});
  writer.append(images, std::vector{halves(made_finite(x)), halves(made_finite(h))});
  writer.finish();
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::ranges::all_of(x, finite)) overwrite(path, "/layers/0/x", x);
  if (!std::ranges::all_of(h, finite)) overwrite(path, "/layers/0/h", h);
}

ClusterOutcome cluster_shards(const ClusterParams& params, const std::vector<fs::path>& shards, int ranks,
                              const fs::path& folder, const std::function<RowMap(std::int64_t)>& output) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  std::vector<ClusterOutcome> outcomes(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    Workers workers(2);
    run::Context context{comm, workers, run::make_logger(1, ranks, false)};
    context.should_stop = [] { return false; };
    ClusterOutcome& mine = outcomes[static_cast<std::size_t>(comm.rank())];
    try {
      cluster_layers(params, {shards, 1, output}, context, folder);
    } catch (const UserError& error) {
      mine.code = error.code();
      mine.message = error.what();
    }
  });
  for (const ClusterOutcome& other : outcomes) EXPECT_EQ(other.code, outcomes[0].code) << other.message;
  if (outcomes[0].code == ExitCode::ok) outcomes[0].layer = load_layer_clusters(folder, 0);
  return outcomes[0];
}

}  // namespace moextract::stages::test
