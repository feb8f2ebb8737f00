#include "cluster/hdbscan_candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

namespace moextract::cluster::hdbscan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float at_most(double value) {
  const auto near = static_cast<float>(value);
  return static_cast<double>(near) <= value ? near : std::nextafter(near, -kInfinity);
}
float at_least(double value) {
  return -at_most(-value);
}
// What a squared distance can have been before its square root was rounded.
float lowest_square(double distance) {
  return at_most(distance * distance * (1 - 1e-15));
}
float highest_square(double distance) {
  return at_least(distance * distance * (1 + 1e-15));
}

}  // namespace

Candidates::Candidates(std::span<const float> from, std::int64_t count, std::span<const float> to,
                       std::int64_t dimension, std::int64_t length)
    : from_(from),
      to_(to),
      dimension_(dimension),
      length_(static_cast<std::int32_t>(length)),
      capacity_(2 * length_ + 32),
      slots_(static_cast<std::size_t>(count)),
      entries_(static_cast<std::size_t>(count * capacity_)) {
  for (Slot& slot : slots_) {
    slot.bound.store(kInfinity, std::memory_order_relaxed);
    slot.useless_from = std::numeric_limits<std::int32_t>::max();
  }
}

float Candidates::offer(std::int64_t i, std::int32_t j, float low, float high) {
  Slot& slot = slots_[static_cast<std::size_t>(i)];
  // Held for nanoseconds, unless its holder has lost the processor: then this thread gives its own away.
  for (int tries = 0; slot.busy.test_and_set(std::memory_order_acquire); ++tries) {
    if (tries > 100) std::this_thread::yield();
  }
  if (low <= slot.bound.load(std::memory_order_relaxed) && j < slot.useless_from) {
    entries_[static_cast<std::size_t>(i * capacity_ + slot.count)] = {low, high, j};
    if (++slot.count == capacity_) tighten(i);
  }
  const float bound = slot.bound.load(std::memory_order_relaxed);
  slot.busy.clear(std::memory_order_release);
  return bound;
}

// Room for more: the length-th smallest upper end bounds the length-th smallest distance.
void Candidates::tighten(std::int64_t i) {
  Slot& slot = slots_[static_cast<std::size_t>(i)];
  Entry* const first = entries_.data() + i * capacity_;
  Entry* const last = first + slot.count;
  std::nth_element(first, first + length_ - 1, last, [](const Entry& a, const Entry& b) { return a.high < b.high; });
  const float bound = std::min(slot.bound.load(std::memory_order_relaxed), first[length_ - 1].high);
  slot.bound.store(bound, std::memory_order_relaxed);
  Entry* const kept = std::remove_if(first, last, [&](const Entry& entry) { return entry.low > bound; });
  slot.count = static_cast<std::int32_t>(kept - first);
  if (slot.count > capacity_ - 16) decide(i);
}

// Too many are too close to tell apart: measures them.
void Candidates::decide(std::int64_t i) {
  Slot& slot = slots_[static_cast<std::size_t>(i)];
  Entry* const first = entries_.data() + i * capacity_;
  const std::vector<Neighbour> nearest = this->nearest(i);
  std::transform(nearest.begin(), nearest.end(), first, [](const Neighbour& neighbour) {
    return Entry{lowest_square(neighbour.distance), highest_square(neighbour.distance), neighbour.index};
  });
  slot.count = static_cast<std::int32_t>(nearest.size());
  if (slot.count < length_) return;
  const Neighbour& last = nearest.back();
  slot.bound.store(std::min(slot.bound.load(std::memory_order_relaxed), highest_square(last.distance)),
                   std::memory_order_relaxed);
  // Among duplicates in great number only the smallest indices count.
  if (last.distance == 0) slot.useless_from = last.index;
}

Candidates::Neighbour Candidates::measure(std::int64_t i, std::int32_t j) const {
  return {std::sqrt(exact_squared_distance(from_.data() + i * dimension_, to_.data() + j * dimension_, dimension_)), j};
}

std::int32_t Candidates::count_within(std::int64_t i, float bound) const {
  const auto first = entries_.begin() + i * capacity_;
  return static_cast<std::int32_t>(std::count_if(first, first + slots_[static_cast<std::size_t>(i)].count,
                                                 [&](const Entry& entry) { return entry.high <= bound; }));
}

void Candidates::lower_bound(std::int64_t i, float bound) {
  std::atomic<float>& mine = slots_[static_cast<std::size_t>(i)].bound;
  mine.store(std::min(mine.load(std::memory_order_relaxed), bound), std::memory_order_relaxed);
}

std::vector<Candidates::Neighbour> Candidates::nearest(std::int64_t i) const {
  const Slot& slot = slots_[static_cast<std::size_t>(i)];
  const std::span<const Entry> entries =
      std::span(entries_).subspan(static_cast<std::size_t>(i * capacity_), static_cast<std::size_t>(slot.count));
  // The bound is only brought up to date when an entry finds no room.
  float bound = slot.bound.load(std::memory_order_relaxed);
  if (slot.count >= length_) {
    std::vector<float> highs;
    for (const Entry& entry : entries) highs.push_back(entry.high);
    std::nth_element(highs.begin(), highs.begin() + length_ - 1, highs.end());
    bound = std::min(bound, highs[static_cast<std::size_t>(length_ - 1)]);
  }
  std::vector<Neighbour> found;
  for (const Entry& entry : entries) {
    if (entry.low <= bound) found.push_back(measure(i, entry.index));
  }
  std::sort(found.begin(), found.end());
  if (found.size() > static_cast<std::size_t>(length_)) found.resize(static_cast<std::size_t>(length_));
  return found;
}

}  // namespace moextract::cluster::hdbscan
