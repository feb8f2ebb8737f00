#include "stages/assemble/layer_statistics.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/float16.h"
#include "moe/expert_router.h"
#include "run/progress.h"

namespace moextract::stages {
namespace {

/// Part of the routing's definition: products of another number of rows may round otherwise.
constexpr std::int64_t kBlockRows = 2048;

/// One rank's results of one layer as numbers that can be gathered.
class PackedStatistics {
 public:
  static void write(const LayerStatistics& s, std::int64_t layer, std::vector<double>& to) {
    for (const std::int64_t n : {layer, s.moments.k, s.moments.hidden, s.moments.width})
      to.push_back(static_cast<double>(n));
    for (const std::int64_t n : s.moments.count) to.push_back(static_cast<double>(n));  // exact below 2^53
    for (const std::vector<double>* part :
         {&s.moments.h_mean, &s.moments.h_variance, &s.moments.x_mean, &s.token_share}) {
      to.insert(to.end(), part->begin(), part->end());
    }
  }
  static std::vector<LayerStatistics> read_all(std::span<const double> from, std::int64_t layers) {
    std::vector<LayerStatistics> all(static_cast<std::size_t>(layers));
    while (!from.empty()) {
      const auto integer = [&] { return static_cast<std::int64_t>(take(from, 1)[0]); };
      LayerStatistics& s = all.at(static_cast<std::size_t>(integer()));
      s.moments.k = integer();
      s.moments.hidden = integer();
      s.moments.width = integer();
      for (std::int64_t c = 0; c < s.moments.k; ++c) s.moments.count.push_back(integer());
      assign(s.moments.h_mean, take(from, s.moments.k * s.moments.hidden));
      assign(s.moments.h_variance, take(from, s.moments.k * s.moments.hidden));
      assign(s.moments.x_mean, take(from, s.moments.k * s.moments.width));
      assign(s.token_share, take(from, s.moments.k));
    }
    return all;
  }

 private:
  static std::span<const double> take(std::span<const double>& from, std::int64_t count) {
    const std::span<const double> part = from.first(static_cast<std::size_t>(count));
    from = from.subspan(static_cast<std::size_t>(count));
    return part;
  }
  static void assign(std::vector<double>& to, std::span<const double> from) { to.assign(from.begin(), from.end()); }
};

/// Blocks of x and h of the same rows. x and h are separate data sets of a shard, so they are read block by block in
/// turn.
void stream_pairs(std::span<const store::ShardExtent> shards, std::int64_t layer, bool with_h,
                  const std::function<void(std::int64_t first, std::int64_t count, std::span<const std::uint16_t> x,
                                           std::span<const std::uint16_t> h)>& visit) {
  std::vector<std::uint16_t> x, h;
  for (const store::ShardExtent& extent : shards) {
    const store::ShardReader shard(extent.path);
    const std::int64_t d = shard.width(layer, store::Tap::x), hidden = shard.width(layer, store::Tap::h);
    for (std::int64_t first = 0; first < extent.rows; first += kBlockRows) {
      const std::int64_t count = std::min(kBlockRows, extent.rows - first);
      x.resize(static_cast<std::size_t>(count * d));
      shard.read_rows(layer, store::Tap::x, first, count, x);
      if (with_h) {
        h.resize(static_cast<std::size_t>(count * hidden));
        shard.read_rows(layer, store::Tap::h, first, count, h);
      }
      visit(extent.first_global + first, count, x, h);
    }
  }
}

LayerStatistics layer_statistics(std::span<const store::ShardExtent> shards, std::int64_t layer,
                                 const LabelsOf& labels_of, const LayerRouter* router, Workers& workers) {
  const store::ShardReader first_shard(shards.front().path);
  const std::int64_t d = first_shard.width(layer, store::Tap::x), hidden = first_shard.width(layer, store::Tap::h);
  const std::int64_t rows = shards.back().first_global + shards.back().rows;
  std::int64_t k = 1;
  std::vector<std::int32_t> labels = labels_of(layer, &k);
  if (labels.empty()) {
    labels.assign(static_cast<std::size_t>(rows), 0);
  } else if (static_cast<std::int64_t>(labels.size()) != rows) {
    fail(ExitCode::input, "layer {}: the clusters label {} rows, but the shards hold {}: run `moextract cluster` again",
         layer, labels.size(), rows);
  }
  moe::MomentSums sums(k, hidden, d);
  stream_pairs(shards, layer, true, [&](std::int64_t first, std::int64_t count, auto x, auto h) {
    sums.add(x, h, std::span(labels).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
             workers);  // rows of no cluster are left out
  });
  LayerStatistics statistics;
  statistics.moments = sums.moments();
  std::vector<std::int64_t> routed(static_cast<std::size_t>(k), 0);
  if (k == 1 || router == nullptr) {
    routed[0] = rows;
  } else {
    stream_pairs(shards, layer, false, [&](std::int64_t, std::int64_t count, auto x, auto) {
      at::Tensor wide = at::empty({count, d}, at::kFloat);
      from_float16(x, {wide.data_ptr<float>(), x.size()});
      const at::Tensor expert = moe::choose_experts(router->weights, wide).expert.contiguous();
      const std::int64_t* e = expert.const_data_ptr<std::int64_t>();
      for (std::int64_t i = 0; i < expert.numel(); ++i) {
        if (e[i] >= 0) ++routed[static_cast<std::size_t>(e[i])];
      }
    });
  }
  const double n = static_cast<double>(std::max<std::int64_t>(rows, 1));
  for (const std::int64_t count : routed) statistics.token_share.push_back(static_cast<double>(count) / n);
  return statistics;
}

}  // namespace

std::vector<LayerStatistics> gather_statistics(std::span<const store::ShardExtent> shards, std::int64_t layers,
                                               const LabelsOf& labels, std::span<const LayerRouter> routers,
                                               run::Context& context) {
  std::vector<double> mine;
  context.comm.together([&] {
    run::Progress progress(context.comm.is_root() ? context.log : nullptr, "statistics", layers, "layers");
    for (std::int64_t layer = context.comm.rank(); layer < layers; layer += context.comm.size()) {
      if (context.should_stop()) {
        fail(ExitCode::resume,
             "assemble was asked to stop; finished stages are kept. Run the same command again to go on");
      }
      const LayerRouter* router = routers.empty() ? nullptr : &routers[static_cast<std::size_t>(layer)];
      PackedStatistics::write(layer_statistics(shards, layer, labels, router, context.workers), layer, mine);
      progress.add(context.comm.size());
    }
  });
  return PackedStatistics::read_all(context.comm.all_gather(std::span<const double>(mine)), layers);
}

}  // namespace moextract::stages
