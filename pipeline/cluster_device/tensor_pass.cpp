#include "cluster_device/tensor_pass.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/nearest.h"
#include "cluster_device/device_rows.h"
#include "cluster_device/device_scores.h"
#include "cluster_device/device_sums.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Undecided rows that one worker decides at a time.
constexpr std::int64_t kDecidedRows = 16;

/// Until what was put on the device's current stream is done.
void wait_for(const at::Device& device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

// Rows of a piece: the row as float32 and less the centre, and some five numbers for each centroid.
std::int64_t chunk_rows(const PassFacts& facts, std::int64_t scratch_bytes) {
  return std::max<std::int64_t>(1, scratch_bytes / (4 * (2 * facts.dimension + 5 * facts.k)));
}

class TensorPass final : public LloydPass {
 public:
  TensorPass(const RowSource& source, const PassFacts& facts, Workers& workers, const TensorPassSettings& settings)
      : facts_(facts),
        layout_(facts),
        workers_(workers),
        settings_(settings),
        local_rows_(source.local_rows()),
        rows_(source, workers, facts.spherical, settings.device, settings.rows_bytes,
              chunk_rows(facts, settings.scratch_bytes)) {}

  void run(const NearestCentroids& nearest) override {
    // What takes memory on the device is made here, where a failure is agreed on by all ranks.
    if (!sums_) sums_.emplace(facts_, settings_.device);
    if (!labels_.defined()) {
      labels_ = at::full({local_rows_}, sums_->none(), at::TensorOptions(at::kInt).device(settings_.device));
    }
    MOEX_ASSERT(centre_.empty() || std::equal(centre_.begin(), centre_.end(), nearest.centre().begin()),
                "the centre changed between passes");
    centre_.assign(nearest.centre().begin(), nearest.centre().end());
    fetched_ = false;
    moved_ = 0;
    const DeviceScores scores(nearest, settings_.device);
    rows_.for_each_chunk(scores.centre(), [&](const RowChunk& chunk) {
      Verdict verdict = scores.judge(chunk);
      decide_open(nearest, chunk, verdict);
      settle(chunk, verdict.labels);
    });
  }

  void reduce(std::span<std::int64_t> words, comm::Communicator& comm) override {
    const auto own = static_cast<std::int64_t>(layout_.size()), all = static_cast<std::int64_t>(words.size());
    layout_.moved_of(words) = moved_;
    const at::Tensor here = at::from_blob(words.data(), {all}, at::TensorOptions(at::kLong));
    at::Tensor travelling = here.to(settings_.device, at::kLong, /*non_blocking=*/false, /*copy=*/true);
    if (sums_) travelling.narrow(0, 0, own - 1).copy_(sums_->words());
    if (settings_.as_device_memory && comm.reaches_devices()) {
      wait_for(settings_.device);
      // The address alone: nobody on the host looks there.
      comm.all_reduce(comm::DeviceSpan<std::int64_t>{travelling.data_ptr<std::int64_t>(), words.size()},
                      comm::Reduction::sum);
      at::Tensor(here).copy_(travelling);
    } else {
      at::Tensor(here).copy_(travelling);
      comm.all_reduce(words, comm::Reduction::sum);
    }
  }

  std::span<const std::int32_t> labels() override {
    if (!fetched_) {
      host_labels_.resize(static_cast<std::size_t>(local_rows_));
      at::from_blob(host_labels_.data(), {local_rows_}, at::TensorOptions(at::kInt)).copy_(labels_);
      fetched_ = true;
    }
    return host_labels_;
  }

 private:
  // Rows whose bounds leave several candidates: by exact arithmetic on the host.
  void decide_open(const NearestCentroids& nearest, const RowChunk& chunk, Verdict& verdict) {
    const at::Tensor open = verdict.counts.ne(1).nonzero().squeeze(1);
    const std::int64_t count = open.numel(), k = facts_.k, d = facts_.dimension;
    if (count == 0) return;
    const at::Tensor candidates = verdict.candidates.index_select(0, open).to(at::kCPU).contiguous();
    const at::Tensor values = chunk.rows.index_select(0, open).to(at::kCPU).to(at::kFloat).contiguous();
    const bool* may_be = candidates.const_data_ptr<bool>();
    const float* row = values.const_data_ptr<float>();
    std::vector<std::int64_t> labels(static_cast<std::size_t>(count));
    while (static_cast<int>(benches_.size()) < workers_.size()) benches_.emplace_back(k, d);
    workers_.for_each((count + kDecidedRows - 1) / kDecidedRows, [&](std::int64_t unit, int worker) {
      Bench& bench = benches_[static_cast<std::size_t>(worker)];
      for (std::int64_t i = unit * kDecidedRows; i < std::min(count, (unit + 1) * kDecidedRows); ++i) {
        bench.ids.clear();
        for (std::int64_t c = 0; c < k; ++c) {
          if (may_be[i * k + c]) bench.ids.push_back(static_cast<std::int32_t>(c));
        }
        labels[static_cast<std::size_t>(i)] =
            nearest.decide({row + i * d, static_cast<std::size_t>(d)}, bench.ids, bench.scratch);
      }
    });
    verdict.labels.index_copy_(
        0, open, at::from_blob(labels.data(), {count}, at::TensorOptions(at::kLong)).to(settings_.device));
  }

  // Takes rows that changed their cluster out of the old one's sums and into the new one's.
  void settle(const RowChunk& chunk, const at::Tensor& labels) {
    at::Tensor before = labels_.narrow(0, chunk.first_local, chunk.count);
    const at::Tensor moved = labels.ne(before).nonzero().squeeze(1);
    if (moved.numel() == 0) return;
    sums_->move(chunk.rows.index_select(0, moved), before.index_select(0, moved).to(at::kLong),
                labels.index_select(0, moved),
                chunk.weights.defined() ? chunk.weights.index_select(0, moved) : at::Tensor());
    before.copy_(labels);
    moved_ += moved.numel();
  }

  struct Bench {
    Bench(std::int64_t k, std::int64_t dimension) : scratch(k, dimension, 0) {}
    NearestScratch scratch;
    std::vector<std::int32_t> ids;
  };

  PassFacts facts_;
  PassWords layout_;
  Workers& workers_;
  TensorPassSettings settings_;
  std::int64_t local_rows_;
  DeviceRows rows_;
  std::optional<DeviceSums> sums_;
  std::vector<float> centre_;
  at::Tensor labels_;  // [local rows] int32, DeviceSums::none() before the first pass
  std::vector<std::int32_t> host_labels_;
  bool fetched_ = false;
  std::int64_t moved_ = 0;
  std::vector<Bench> benches_;  // one a worker
};

}  // namespace

MakePass make_tensor_passes(const TensorPassSettings& settings) {
  return [settings](const RowSource& source, const PassFacts& facts, Workers& workers) {
    return std::make_unique<TensorPass>(source, facts, workers, settings);
  };
}

}  // namespace moextract::cluster
