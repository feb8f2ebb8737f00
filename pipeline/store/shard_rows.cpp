// Several shards as one sequence of rows.
#include "store/shard_rows.h"

#include <algorithm>
#include <optional>

#include "core/error.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

bool same_layers(const ShardInfo& a, const ShardInfo& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const ShardLayer& l, const ShardLayer& r) {
                      return l.layer == r.layer && l.x_width == r.x_width && l.h_width == r.h_width;
                    });
}

void check_agreement(const fs::path& first_path, const ShardInfo& first, const fs::path& path, const ShardInfo& info) {
  std::string what;
  if (info.model_hash != first.model_hash) {
    what = fmt::format("models (hash {} and {})", first.model_hash, info.model_hash);
  } else if (info.data_fingerprint != first.data_fingerprint) {
    what = fmt::format("image sets ({} and {})", first.data_fingerprint, info.data_fingerprint);
  } else if (info.seed != first.seed) {
    what = fmt::format("seeds ({} and {})", first.seed, info.seed);
  } else if (!same_layers(first, info)) {
    what = "layers or layer widths";
  } else {
    return;
  }
  fail(ExitCode::input,
       "{} and {} were recorded with different {}: they cannot be used together. Remove those that do not belong to "
       "this "
       "configuration and run `moextract collect` again.",
       first_path.string(), path.string(), what);
}

}  // namespace

std::vector<ShardExtent> list_shards(std::span<const fs::path> paths) {
  std::vector<ShardExtent> shards;
  std::optional<ShardInfo> first;
  std::int64_t rows = 0;
  for (const fs::path& path : paths) {
    const ShardReader reader(path);
    if (!first) first = reader.info();
    check_agreement(paths.front(), *first, path, reader.info());
    shards.push_back({path, rows, reader.rows()});
    rows += reader.rows();
  }
  return shards;
}

void stream_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                 const std::function<void(std::int64_t first_global, std::int64_t count,
                                          std::span<const std::uint16_t> rows)>& visit) {
  MOEX_ASSERT(block_rows > 0, "a block holds at least one row");
  std::vector<std::uint16_t> block;
  for (const ShardExtent& shard : shards) {
    if (shard.rows == 0) continue;
    const ShardReader reader(shard.path);
    if (reader.rows() != shard.rows) {
      fail(ExitCode::input,
           "{}: has {} rows now and had {} when it was listed. Another process changes the shards: stop "
           "it and run the same command again.",
           shard.path.string(), reader.rows(), shard.rows);
    }
    const std::int64_t width = reader.width(layer, tap);
    if (width == 0) {
      fail(ExitCode::input,
           "{}: does not record {} of layer {}. Collect that layer too (`moextract collect`) or leave it "
           "out.",
           shard.path.string(), tap_name(tap), layer);
    }
    for (std::int64_t first = 0; first < shard.rows; first += block_rows) {
      const std::int64_t count = std::min(block_rows, shard.rows - first);
      block.resize(static_cast<std::size_t>(count * width));
      reader.read_rows(layer, tap, first, count, block);
      visit(shard.first_global + first, count, block);
    }
  }
}

}  // namespace moextract::store
