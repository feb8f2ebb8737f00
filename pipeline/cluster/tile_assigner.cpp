#include "cluster/tile_assigner.h"

#include <algorithm>
#include <limits>

#include "cluster/distances.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

// Open rows that a row is asked for before it is needed: rows are far more than the caches hold.
constexpr std::size_t kAhead = 4;

}  // namespace

TileAssigner::TileAssigner(std::int64_t k, std::int64_t dimension, std::int64_t tile_rows)
    : scratch_(k, dimension, tile_rows),
      row_(static_cast<std::size_t>(dimension)),
      labels_(static_cast<std::size_t>(tile_rows)),
      ids_(static_cast<std::size_t>(k + 2 * kPanelCentroids)),
      ranges_(static_cast<std::size_t>(k)) {}

std::span<const std::int32_t> TileAssigner::assign(const NearestCentroids& nearest, const TileView& tile,
                                                   std::span<const std::int32_t> before, const RowMemory& memory) {
  whole_.clear();
  places_.clear();
  if (memory.bounds.is_filled()) {
    find_open(tile, before, memory);
    find_suspects(nearest, tile, memory);
    measure_suspects(nearest, tile, memory);
    for (const Pending& pending : pending_) {
      labels_[static_cast<std::size_t>(pending.i)] = nearest_of(nearest, tile, pending, memory);
    }
  } else {
    for (std::int64_t i = 0; i < tile.count; ++i) {
      whole_.push_back(rounded_row(nearest, tile, i, memory));
      places_.push_back(i);
    }
  }
  measure_all(nearest, tile, memory);
  return std::span(labels_).first(static_cast<std::size_t>(tile.count));
}

// Rows that have to be read; the others keep their cluster.
void TileAssigner::find_open(const TileView& tile, std::span<const std::int32_t> before, const RowMemory& memory) {
  open_.clear();
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const std::int32_t label = before[static_cast<std::size_t>(i)];
    labels_[static_cast<std::size_t>(i)] = label;
    memory.bounds.loosen(tile.first_local + i, label);
    if (memory.bounds.any_suspect(tile.first_local + i)) open_.push_back(i);
  }
}

// With its own distance anew, most of a row's suspects are none. In two loops: products without a branch that waits for
// them, then what depends on them.
void TileAssigner::find_suspects(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory) {
  pending_.clear();
  suspects_.clear();
  open_rows_.clear();
  own_products_.resize(open_.size());
  for (std::size_t n = 0; n < open_.size(); ++n) {
    if (n + kAhead < open_.size()) {
      const std::int64_t later = open_[n + kAhead];
      memory.rounded.is_filled() ? memory.rounded.prefetch(tile.first_local + later) : tile.prefetch(later, 0);
    }
    open_rows_.push_back(rounded_row(nearest, tile, open_[n], memory));
    nearest.products(open_rows_[n], std::span(&labels_[static_cast<std::size_t>(open_[n])], 1),
                     std::span(&own_products_[n], 1));
  }
  for (std::size_t n = 0; n < open_.size(); ++n) {
    const std::int64_t i = open_[n], local = tile.first_local + i;
    const std::int32_t label = labels_[static_cast<std::size_t>(i)];
    const RoundedRow& row = open_rows_[n];
    const ScoreRange own = nearest.range_of(row, label, own_products_[n]);
    memory.bounds.set_own(local, label, row, own.upper);
    const std::int64_t count = memory.bounds.suspects(local, label, ids_);
    if (count == 0) continue;
    // Products with whole panels of centroids cost about a third of single ones and what goes with them.
    if (3 * count > nearest.padded_size()) {
      whole_.push_back(row);
      places_.push_back(i);
      continue;
    }
    const std::size_t first = suspects_.size();
    suspects_.insert(suspects_.end(), ids_.begin(), ids_.begin() + count);
    pending_.push_back({.i = i, .row = row, .own = own, .first = first, .last = suspects_.size(), .next = first});
  }
}

// A few centroids at a time for all rows of the tile: those stay in the nearest cache, and the rows in the next.
void TileAssigner::measure_suspects(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory) {
  products_.resize(suspects_.size());
  // Where most rows are read, those of the next tile will be, and the arithmetic on these leaves the memory idle.
  bool asks = memory.rounded.is_filled() && 4 * pending_.size() > 3 * static_cast<std::size_t>(tile.count);
  const std::int64_t step = nearest.cached_centroids();
  for (std::int64_t end = step; end < nearest.size() + step; end += step) {
    for (Pending& pending : pending_) {
      if (asks) memory.rounded.prefetch(tile.first_local + pending.i + memory.likely_next);
      const std::size_t from = pending.next;
      while (pending.next < pending.last && suspects_[pending.next] < end) ++pending.next;
      if (pending.next == from) continue;
      nearest.products(pending.row, std::span(suspects_).subspan(from, pending.next - from),
                       std::span(products_).subspan(from, pending.next - from));
    }
    asks = false;
  }
}

std::int32_t TileAssigner::nearest_of(const NearestCentroids& nearest, const TileView& tile, const Pending& pending,
                                      const RowMemory& memory) {
  const std::int64_t local = tile.first_local + pending.i;
  const std::size_t count = pending.last - pending.first;
  const auto suspects = std::span<const std::int32_t>(suspects_).subspan(pending.first, count);
  const auto ranges = std::span(ranges_).first(count);
  float least = std::numeric_limits<float>::infinity();
  for (std::size_t s = 0; s < count; ++s) {
    ranges[s] = nearest.range_of(pending.row, suspects[s], products_[pending.first + s]);
    memory.bounds.set_other(local, suspects[s], pending.row, ranges[s].lower);
    least = std::min(least, ranges[s].lower);
  }
  const std::int32_t before = labels_[static_cast<std::size_t>(pending.i)];
  if (least > pending.own.upper) return before;
  return nearest_suspect(nearest, tile, pending.i, before, pending.row, pending.own, suspects, ranges, memory);
}

std::int32_t TileAssigner::nearest_suspect(const NearestCentroids& nearest, const TileView& tile, std::int64_t i,
                                           std::int32_t before, const RoundedRow& row, const ScoreRange& own,
                                           std::span<const std::int32_t> suspects, std::span<const ScoreRange> ranges,
                                           const RowMemory& memory) {
  float best = own.upper;
  for (const ScoreRange& range : ranges) best = std::min(best, range.upper);
  // Those that may be nearest, ascending.
  candidates_.clear();
  bool own_is_in = !(own.lower <= best);
  for (std::size_t s = 0; s < suspects.size(); ++s) {
    if (!own_is_in && before < suspects[s]) {
      candidates_.push_back(before);
      own_is_in = true;
    }
    if (ranges[s].lower <= best) candidates_.push_back(suspects[s]);
  }
  if (!own_is_in) candidates_.push_back(before);
  std::int32_t label = candidates_.front();
  if (candidates_.size() > 1) {
    label = nearest.decide(prepared_row(tile, i, memory.spherical), candidates_, scratch_);
  }
  if (label == before) return before;
  const auto at = static_cast<std::size_t>(std::find(suspects.begin(), suspects.end(), label) - suspects.begin());
  memory.bounds.set_other(tile.first_local + i, before, row, own.lower);
  memory.bounds.set_own(tile.first_local + i, label, row, ranges[at].upper);
  return label;
}

void TileAssigner::measure_all(const NearestCentroids& nearest, const TileView& tile, const RowMemory& memory) {
  const bool kept = memory.rounded.is_filled(), first = !memory.bounds.is_filled();
  nearest.all_scores(whole_, scratch_, [&](std::size_t n, const NearestCentroids::RowScores& scores) {
    const std::int64_t i = places_[n], local = tile.first_local + i;
    // Rows are far more than the caches hold, and the arithmetic on one leaves the memory idle.
    if (first && kept) memory.rounded.prefetch(local + memory.likely_next);
    if (first && !kept) tile.prefetch(i, tile.count);
    const std::int32_t label =
        scores.label >= 0 ? scores.label
                          : nearest.decide(prepared_row(tile, i, memory.spherical), scores.candidates, scratch_);
    if (memory.bounds.is_on()) {
      memory.bounds.set_all(local, whole_[n], scores.lower);
      memory.bounds.set_own(local, label, whole_[n], scores.upper[static_cast<std::size_t>(label)]);
    }
    labels_[static_cast<std::size_t>(i)] = label;
  });
}

RoundedRow TileAssigner::rounded_row(const NearestCentroids& nearest, const TileView& tile, std::int64_t i,
                                     const RowMemory& memory) {
  const std::int64_t local = tile.first_local + i;
  if (memory.rounded.is_filled()) return memory.rounded.row(local);
  RoundedRow row;
  std::int16_t* to = memory.rounded.is_on() ? memory.rounded.place(local) : nearest.place(scratch_, i);
  const bool finite = memory.spherical ? nearest.round_to(to, prepared_row(tile, i, true), scratch_, row)
                                       : nearest.round_to(to, tile.row(i), scratch_, row);
  if (!finite) {
    largest_magnitude(tile.row(i), tile.dimension, tile.first_global + i);
    MOEX_ASSERT(finite, "a finite row has no finite length");
  }
  if (memory.rounded.is_on()) memory.rounded.row(local) = row;
  return row;
}

std::span<const float> TileAssigner::prepared_row(const TileView& tile, std::int64_t i, bool spherical) {
  prepare_rows(tile.row(i), tile.dimension, spherical, row_);
  return row_;
}

}  // namespace moextract::cluster
