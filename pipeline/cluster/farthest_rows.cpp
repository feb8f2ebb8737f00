#include "cluster/farthest_rows.h"

#include <algorithm>

namespace moextract::cluster {

void FarthestRows::offer(double distance, std::int64_t global, std::span<const float> row) {
  if (distance <= 0) return;
  const auto before = [](const FarRow& a, const FarRow& b) {
    return a.distance != b.distance ? a.distance > b.distance : a.global < b.global;
  };
  FarRow candidate{distance, global, {}};
  if (rows_.size() == limit_ && before(rows_.back(), candidate)) return;
  // Equal rows have equal distances, bit by bit.
  for (auto other = rows_.begin(); other != rows_.end(); ++other) {
    if (other->distance != distance || !std::ranges::equal(other->values, row)) continue;
    if (other->global < global) return;
    rows_.erase(other);
    break;
  }
  candidate.values.assign(row.begin(), row.end());
  rows_.insert(std::upper_bound(rows_.begin(), rows_.end(), candidate, before), std::move(candidate));
  if (rows_.size() > limit_) rows_.pop_back();
}

std::vector<FarRow> farthest_rows(TilePass& pass, const CentroidPanels& panels, std::span<const std::int32_t> labels,
                                  std::int64_t dimension, bool spherical, std::int64_t limit, comm::Communicator& comm,
                                  int workers) {
  std::vector<FarthestRows> found(static_cast<std::size_t>(workers), FarthestRows(limit));
  std::vector<RowTile> tiles(static_cast<std::size_t>(workers), RowTile(dimension));
  comm.together([&] {
    pass.run([&](const TileView& view, int worker) {
      RowTile& tile = tiles[static_cast<std::size_t>(worker)];
      tile.load(view.rows, view.count, spherical);
      for (std::int64_t i = 0; i < tile.count(); ++i) {
        if (view.weight(i) == 0) continue;
        const double distance = panels.squared_distance(tile, i, labels[view.first_local + i]);
        found[static_cast<std::size_t>(worker)].offer(distance, view.first_global + i, tile.row(i));
      }
    });
  });
  std::vector<double> distances;
  std::vector<std::int64_t> numbers;
  std::vector<float> values;
  for (const FarthestRows& mine : found) {
    for (const FarRow& row : mine.rows()) {
      distances.push_back(row.distance);
      numbers.push_back(row.global);
      values.insert(values.end(), row.values.begin(), row.values.end());
    }
  }
  distances = comm.all_gather(std::span<const double>(distances));
  numbers = comm.all_gather(std::span<const std::int64_t>(numbers));
  values = comm.all_gather(std::span<const float>(values));
  FarthestRows all(limit);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto d = static_cast<std::size_t>(dimension);
    all.offer(distances[i], numbers[i], std::span(values).subspan(i * d, d));
  }
  return all.rows();
}

}  // namespace moextract::cluster
