#include "stages/cluster/shard_row_source.h"

#include <algorithm>

#include "comm/watched.h"
#include "core/error.h"
#include "core/float16.h"

namespace moextract::stages {
namespace {

// Blocks of kept rows: large enough to be dealt to many threads, small enough to note progress between them.
constexpr std::int64_t kKeptBlockRows = 65536;

}  // namespace

std::string tap_name(ClusterTap tap) {
  switch (tap) {
    case ClusterTap::h:
      return "h";
    case ClusterTap::x:
      return "x";
    case ClusterTap::both:
      return "both";
    case ClusterTap::y:
      return "y";
    case ClusterTap::z:
      break;
  }
  return "z";
}

bool reads_x(ClusterTap tap) {
  return tap == ClusterTap::x || tap == ClusterTap::both || tap == ClusterTap::z;
}

bool reads_h(ClusterTap tap) {
  return tap == ClusterTap::h || tap == ClusterTap::both || tap == ClusterTap::y;
}

ShardRowSource::ShardRowSource(std::vector<store::ShardExtent> shards, std::int64_t layer, const Settings& settings,
                               Workers& workers)
    : shards_(std::move(shards)), layer_(layer), settings_(settings), workers_(workers) {
  for (const store::ShardExtent& shard : shards_) local_rows_ += shard.rows;
  switch (settings_.tap) {
    case ClusterTap::h:
      dimension_ = settings_.h_width;
      break;
    case ClusterTap::x:
      dimension_ = settings_.x_width;
      break;
    case ClusterTap::both:
      dimension_ = settings_.x_width + settings_.h_width;
      break;
    case ClusterTap::y:
    case ClusterTap::z:
      MOEX_ASSERT(settings_.map != nullptr, "rows that are not recorded need what they are computed by");
      dimension_ = settings_.map->outputs;
      break;
  }
}

void ShardRowSource::read_blocks(const std::function<void(const cluster::RowBlock&)>& visit) const {
  std::int64_t local = 0;
  const auto hand_out = [&](std::int64_t first_global, std::int64_t count, std::span<const std::uint16_t> rows) {
    visit({local, first_global, count, rows});
    comm::note_progress();  // ranks with fewer rows wait in the reduction
    local += count;
  };
  if (settings_.tap == ClusterTap::h || settings_.tap == ClusterTap::x) {
    const store::Tap tap = settings_.tap == ClusterTap::h ? store::Tap::h : store::Tap::x;
    store::stream_rows(shards_, layer_, tap, settings_.block_rows, hand_out);
    return;
  }
  const bool mapped = settings_.tap != ClusterTap::both;
  const store::Tap tap = settings_.tap == ClusterTap::z ? store::Tap::x : store::Tap::h;
  std::vector<std::uint16_t> x, made;
  for (const store::ShardExtent& shard : shards_) {
    if (shard.rows == 0) continue;
    const store::ShardReader reader(shard.path);
    store::stream_rows(
        std::span(&shard, 1), layer_, tap, settings_.block_rows,
        [&](std::int64_t first_global, std::int64_t count, std::span<const std::uint16_t> read) {
          made.resize(static_cast<std::size_t>(count * dimension_));
          if (mapped) {
            map_rows(*settings_.map, read, made, workers_);
            if (const std::int64_t at = first_non_finite(std::span<const std::uint16_t>(made)); at >= 0) {
              fail(ExitCode::numerics,
                   "{}: the {} of row {} in layer {} are too large for float16: cluster another tap",
                   shard.path.string(), settings_.tap == ClusterTap::y ? "MLP's outputs" : "pre-activations",
                   shard.first_row + first_global - shard.first_global + at / dimension_, layer_);
            }
          } else {
            const std::int64_t dx = settings_.x_width, dh = settings_.h_width;
            x.resize(static_cast<std::size_t>(count * dx));
            reader.read_rows(layer_, store::Tap::x, shard.first_row + first_global - shard.first_global, count, x);
            for (std::int64_t i = 0; i < count; ++i) {
              auto to = made.begin() + i * dimension_;
              to = std::copy_n(x.begin() + i * dx, dx, to);
              std::copy_n(read.begin() + i * dh, dh, to);
            }
          }
          hand_out(first_global, count, made);
        });
  }
}

void ShardRowSource::visit_kept(const std::function<void(const cluster::RowBlock&)>& visit) const {
  // Parts of one rank are consecutive, so its rows are one range of global numbers.
  const std::int64_t first_global = shards_.empty() ? 0 : shards_.front().first_global;
  for (std::int64_t first = 0; first < local_rows_; first += kKeptBlockRows) {
    const std::int64_t count = std::min(kKeptBlockRows, local_rows_ - first);
    visit({first, first_global + first, count,
           std::span<const std::uint16_t>(kept_).subspan(static_cast<std::size_t>(first * dimension_),
                                                         static_cast<std::size_t>(count * dimension_))});
    comm::note_progress();
  }
}

void ShardRowSource::for_each_block(const std::function<void(const cluster::RowBlock&)>& visit) const {
  const std::int64_t values = local_rows_ * dimension_;
  if (values > 0 && static_cast<std::int64_t>(kept_.size()) == values) {
    visit_kept(visit);
    return;
  }
  if (values * 2 > settings_.keep_bytes) {
    read_blocks(visit);
    return;
  }
  std::vector<std::uint16_t> rows;
  rows.reserve(static_cast<std::size_t>(values));
  read_blocks([&](const cluster::RowBlock& block) {
    rows.insert(rows.end(), block.rows.begin(), block.rows.end());
    visit(block);
  });
  kept_ = std::move(rows);
}

}  // namespace moextract::stages
