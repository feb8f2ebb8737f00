// Several shards as one sequence of rows.
#include "store/shard_rows.h"

#include <algorithm>
#include <list>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

bool same_layers(const ShardInfo& a, const ShardInfo& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const ShardLayer& l, const ShardLayer& r) {
                      return l.layer == r.layer && l.x_width == r.x_width && l.h_width == r.h_width;
                    });
}

/// Opens a shard and makes sure that it is the one that was listed, with the tap that is wanted.
ShardReader open_listed(const ShardExtent& shard, std::int64_t layer, Tap tap) {
  ShardReader reader(shard.path);
  if (reader.rows() != shard.shard_rows) {
    fail(ExitCode::input,
         "{}: has {} rows now and had {} when it was listed. Another process changes the shards: stop "
         "it and run the same command again.",
         shard.path.string(), reader.rows(), shard.shard_rows);
  }
  if (reader.width(layer, tap) == 0) {
    fail(ExitCode::input,
         "{}: does not record {} of layer {}. Set collect.taps to record it and run `moextract "
         "collect` again.",
         shard.path.string(), tap_name(tap), layer);
  }
  return reader;
}

/// The shards read last, open.
class OpenShards {
 public:
  OpenShards(std::int64_t layer, Tap tap) : layer_(layer), tap_(tap) {}
  const ShardReader& get(const ShardExtent& shard) {
    const auto found = std::find_if(open_.begin(), open_.end(), [&](const auto& o) { return o.first == shard.path; });
    if (found != open_.end()) {
      open_.splice(open_.begin(), open_, found);
    } else {
      open_.emplace_front(shard.path, open_listed(shard, layer_, tap_));
      if (open_.size() > kMost) open_.pop_back();
    }
    return open_.front().second;
  }

 private:
  static constexpr std::size_t kMost = 8;
  std::int64_t layer_;
  Tap tap_;
  std::list<std::pair<fs::path, ShardReader>> open_;  // the one used last first
};

constexpr std::uint64_t kBlockOrder = 0x626c6f636b73, kRowOrder = 0x726f7773;

}  // namespace

std::string difference(const ShardInfo& a, const ShardInfo& b) {
  if (a.model_hash != b.model_hash) return fmt::format("models (hash {} and {})", a.model_hash, b.model_hash);
  if (a.data_fingerprint != b.data_fingerprint)
    return fmt::format("image sets ({} and {})", a.data_fingerprint, b.data_fingerprint);
  if (a.seed != b.seed) return fmt::format("seeds ({} and {})", a.seed, b.seed);
  return same_layers(a, b) ? "" : "layers, taps or layer widths";
}

std::vector<ShardExtent> list_shards(std::span<const fs::path> paths) {
  std::vector<ShardExtent> shards;
  std::optional<ShardInfo> first;
  std::int64_t rows = 0;
  for (const fs::path& path : paths) {
    const ShardReader reader(path);
    if (!first) first = reader.info();
    if (const std::string what = difference(*first, reader.info()); !what.empty()) {
      fail(ExitCode::input,
           "{} and {} were recorded with different {}: they cannot be used together. Remove those that do not belong "
           "to this configuration and run `moextract collect` again.",
           paths.front().string(), path.string(), what);
    }
    shards.push_back({path, rows, reader.rows(), 0, reader.rows()});
    rows += reader.rows();
  }
  return shards;
}

std::vector<ShardExtent> part_of_rows(std::span<const ShardExtent> shards, int part, int parts) {
  MOEX_ASSERT(part >= 0 && part < parts, "a part of the parts");
  std::int64_t total = 0;
  for (const ShardExtent& shard : shards) total += shard.rows;
  const std::int64_t begin = total * part / parts, end = total * (part + 1) / parts;
  std::vector<ShardExtent> mine;
  std::int64_t before = 0;
  for (const ShardExtent& shard : shards) {
    const std::int64_t from = std::max(begin - before, std::int64_t{0}), to = std::min(end - before, shard.rows);
    if (from < to) {
      mine.push_back({shard.path, shard.first_global + from, to - from, shard.first_row + from, shard.shard_rows});
    }
    before += shard.rows;
  }
  return mine;
}

void stream_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                 const std::function<void(std::int64_t first_global, std::int64_t count,
                                          std::span<const std::uint16_t> rows)>& visit) {
  MOEX_ASSERT(block_rows > 0, "a block holds at least one row");
  std::vector<std::uint16_t> block;
  for (const ShardExtent& shard : shards) {
    if (shard.rows == 0) continue;
    const ShardReader reader = open_listed(shard, layer, tap);
    const std::int64_t width = reader.width(layer, tap);
    for (std::int64_t first = 0; first < shard.rows; first += block_rows) {
      const std::int64_t count = std::min(block_rows, shard.rows - first);
      block.resize(static_cast<std::size_t>(count * width));
      reader.read_rows(layer, tap, shard.first_row + first, count, block);
      visit(shard.first_global + first, count, block);
    }
  }
}

void stream_shuffled_rows(std::span<const ShardExtent> shards, std::int64_t layer, Tap tap, std::int64_t block_rows,
                          std::uint64_t seed, int part, int parts,
                          const std::function<void(const ShuffledBlock&)>& visit) {
  MOEX_ASSERT(block_rows > 0, "a block holds at least one row");
  MOEX_ASSERT(part >= 0 && part < parts, "a part of the parts");
  std::vector<std::pair<std::size_t, std::int64_t>> blocks;  // shard, first row
  for (std::size_t s = 0; s < shards.size(); ++s) {
    for (std::int64_t first = 0; first < shards[s].rows; first += block_rows) blocks.emplace_back(s, first);
  }
  const std::vector<std::int64_t> order =
      RandomStream(seed, kBlockOrder).permutation(static_cast<std::int64_t>(blocks.size()));
  OpenShards open(layer, tap);
  std::vector<std::uint16_t> read, turned;
  std::vector<std::int64_t> index;
  for (std::size_t i = static_cast<std::size_t>(part); i < order.size(); i += static_cast<std::size_t>(parts)) {
    const auto [s, first] = blocks[static_cast<std::size_t>(order[i])];
    const ShardExtent& shard = shards[s];
    const ShardReader& reader = open.get(shard);
    const std::int64_t count = std::min(block_rows, shard.rows - first), width = reader.width(layer, tap);
    read.resize(static_cast<std::size_t>(count * width));
    reader.read_rows(layer, tap, shard.first_row + first, count, read);
    index.clear();
    turned.clear();
    const auto name = static_cast<std::uint64_t>(shard.first_global + first);
    for (const std::int64_t row : RandomStream(seed, kRowOrder, name).permutation(count)) {
      index.push_back(shard.first_global + first + row);
      turned.insert(turned.end(), read.begin() + row * width, read.begin() + (row + 1) * width);
    }
    visit({index, turned});
  }
}

}  // namespace moextract::store
