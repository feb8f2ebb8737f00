#include "cluster_device/device_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "cluster/distances.h"
#include "cluster/tile_pass.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Rows that one worker prepares at a time.
constexpr std::int64_t kPreparedRows = 64;

// A tensor over host memory that is only read.
template <class T>
at::Tensor view_of(const T* values, at::IntArrayRef shape, at::ScalarType type) {
  return at::from_blob(const_cast<T*>(values), shape, at::TensorOptions(type));
}

}  // namespace

DeviceRows::DeviceRows(const RowSource& source, Workers& workers, bool spherical, const at::Device& device,
                       std::int64_t most_bytes, std::int64_t chunk_rows)
    : source_(source),
      workers_(workers),
      spherical_(spherical),
      device_(device),
      chunk_rows_(chunk_rows),
      keeps_(source.local_rows() <= most_bytes / ((spherical ? 4 : 2) * source.dimension() + 4)) {}

void DeviceRows::for_each_chunk(const at::Tensor& centre, const std::function<void(const RowChunk&)>& visit) {
  if (!keeps_ || !filled_) {
    for_each_checked_block(source_, [&](const RowBlock& block) { send_block(block, centre, visit); });
    filled_ = keeps_;
    return;
  }
  for (std::int64_t first = 0; first < source_.local_rows(); first += chunk_rows_) {
    RowChunk chunk;
    chunk.first_local = first;
    chunk.count = std::min(chunk_rows_, source_.local_rows() - first);
    chunk.rows = rows_.narrow(0, first, chunk.count);
    chunk.lengths = lengths_.narrow(0, first, chunk.count);
    if (weights_.defined()) chunk.weights = weights_.narrow(0, first, chunk.count);
    visit(chunk);
  }
}

void DeviceRows::send_block(const RowBlock& block, const at::Tensor& centre,
                            const std::function<void(const RowChunk&)>& visit) {
  for (std::int64_t first = 0; first < block.count; first += chunk_rows_) {
    RowChunk chunk = send(block, first, std::min(chunk_rows_, block.count - first), centre);
    if (keeps_) keep(chunk);
    visit(chunk);
  }
}

RowChunk DeviceRows::send(const RowBlock& block, std::int64_t first, std::int64_t count, const at::Tensor& centre) {
  const std::int64_t d = source_.dimension();
  const auto bits = block.rows.subspan(static_cast<std::size_t>(first * d), static_cast<std::size_t>(count * d));
  RowChunk chunk;
  chunk.first_local = block.first_local + first;
  chunk.count = count;
  if (spherical_) {
    // On the host, because the roundings of a row's length are part of what the row is.
    prepared_.resize(bits.size());
    workers_.for_each((count + kPreparedRows - 1) / kPreparedRows, [&](std::int64_t unit, int) {
      const auto from = static_cast<std::size_t>(unit * kPreparedRows * d);
      const std::size_t values = std::min(static_cast<std::size_t>(kPreparedRows * d), bits.size() - from);
      prepare_rows(bits.subspan(from, values), d, true, std::span(prepared_).subspan(from, values));
    });
    chunk.rows = view_of(prepared_.data(), {count, d}, at::kFloat).to(device_);
  } else {
    chunk.rows = view_of(bits.data(), {count, d}, at::kHalf).to(device_);
  }
  if (!block.weights.empty()) {
    // At most kMostWeight, so that their sign does not matter.
    chunk.weights = view_of(block.weights.data() + first, {count}, at::kInt).to(device_).to(at::kLong);
  }
  chunk.lengths = at::linalg_vector_norm(chunk.rows.to(at::kFloat).sub(centre), 2, at::IntArrayRef{1});
  if (!at::isfinite(chunk.lengths).all().item<bool>()) {
    largest_magnitude(bits, d, block.first_global + first);
    MOEX_ASSERT(false, "finite rows have no finite length");
  }
  return chunk;
}

void DeviceRows::keep(RowChunk& chunk) {
  const std::int64_t rows = source_.local_rows();
  if (!rows_.defined()) {
    rows_ = at::empty({rows, source_.dimension()}, chunk.rows.options());
    lengths_ = at::empty({rows}, chunk.lengths.options());
  }
  if (chunk.weights.defined() && !weights_.defined()) weights_ = at::ones({rows}, chunk.weights.options());
  const auto store = [&](const at::Tensor& all, at::Tensor& part) {
    at::Tensor place = all.narrow(0, chunk.first_local, chunk.count);
    place.copy_(part);
    part = place;
  };
  store(rows_, chunk.rows);
  store(lengths_, chunk.lengths);
  if (chunk.weights.defined()) store(weights_, chunk.weights);
}

}  // namespace moextract::cluster
