#include "stages/cluster/shard_row_source.h"

#include <algorithm>

#include "comm/watched.h"
#include "core/error.h"
#include "core/float16.h"

namespace moextract::stages {
namespace {

// Rows of h that a worker multiplies while a part of W2 stays in its cache.
constexpr std::int64_t kOutputRows = 16;
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
      break;
  }
  return "y";
}

void compute_outputs(const OutputLayer& layer, std::span<const std::uint16_t> h, std::span<std::uint16_t> y,
                     Workers& workers) {
  const std::int64_t width = layer.width, hidden = layer.hidden;
  const std::int64_t rows = static_cast<std::int64_t>(h.size()) / hidden;
  // Columns side by side, so that one hidden value meets all outputs at once and each output has one sum.
  std::vector<double> transposed(layer.weight.size());
  for (std::int64_t i = 0; i < width; ++i) {
    for (std::int64_t j = 0; j < hidden; ++j)
      transposed[j * width + i] = static_cast<double>(layer.weight[i * hidden + j]);
  }
  workers.for_each((rows + kOutputRows - 1) / kOutputRows, [&](std::int64_t unit, int) {
    const std::int64_t first = unit * kOutputRows, count = std::min(kOutputRows, rows - first);
    std::vector<double> sums(static_cast<std::size_t>(count * width));
    std::vector<float> hs(static_cast<std::size_t>(count * hidden)), ys(sums.size());
    from_float16(h.subspan(static_cast<std::size_t>(first * hidden), hs.size()), hs);
    for (std::size_t i = 0; i < sums.size() && !layer.bias.empty(); ++i) {
      sums[i] = static_cast<double>(layer.bias[i % static_cast<std::size_t>(width)]);
    }
    for (std::int64_t j = 0; j < hidden; ++j) {
      const double* column = transposed.data() + j * width;
      for (std::int64_t r = 0; r < count; ++r) {
        const auto value = static_cast<double>(hs[static_cast<std::size_t>(r * hidden + j)]);
        double* sum = sums.data() + r * width;
        for (std::int64_t i = 0; i < width; ++i) sum[i] += value * column[i];
      }
    }
    std::transform(sums.begin(), sums.end(), ys.begin(), [](double sum) { return static_cast<float>(sum); });
    to_float16(ys, y.subspan(static_cast<std::size_t>(first * width), ys.size()));
  });
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
      MOEX_ASSERT(settings_.output != nullptr, "y needs the layer's output weights");
      dimension_ = settings_.output->width;
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
  std::vector<std::uint16_t> x, made;
  for (const store::ShardExtent& shard : shards_) {
    if (shard.rows == 0) continue;
    const store::ShardReader reader(shard.path);
    store::stream_rows(
        std::span(&shard, 1), layer_, store::Tap::h, settings_.block_rows,
        [&](std::int64_t first_global, std::int64_t count, std::span<const std::uint16_t> h) {
          made.resize(static_cast<std::size_t>(count * dimension_));
          if (settings_.tap == ClusterTap::y) {
            compute_outputs(*settings_.output, h, made, workers_);
            if (const std::int64_t at = first_non_finite(std::span<const std::uint16_t>(made)); at >= 0) {
              fail(ExitCode::numerics,
                   "{}: the MLP's output of row {} in layer {} is too large for float16: cluster another tap",
                   shard.path.string(), shard.first_row + first_global - shard.first_global + at / dimension_, layer_);
            }
          } else {
            const std::int64_t dx = settings_.x_width, dh = settings_.h_width;
            x.resize(static_cast<std::size_t>(count * dx));
            reader.read_rows(layer_, store::Tap::x, shard.first_row + first_global - shard.first_global, count, x);
            for (std::int64_t i = 0; i < count; ++i) {
              auto to = made.begin() + i * dimension_;
              to = std::copy_n(x.begin() + i * dx, dx, to);
              std::copy_n(h.begin() + i * dh, dh, to);
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
