// One pass of Lloyd's iteration over a rank's rows: the true nearest centroid of every row, and the exact sums of every
// cluster. The processor's is host_pass.h; one that computes on a device (cluster_device/) can take its place. All give
// the same bits: a label is a fact, and sums are integers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "cluster/exact_sums.h"
#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

class NearestCentroids;

/// What a pass is made for; the same on every rank.
struct PassFacts {
  std::int64_t k = 0, dimension = 0;
  std::int64_t total_rows = 0;  ///< of the whole set, or the sum of their weights, if that is more
  float largest = 0;            ///< |value| of the whole set's prepared rows
  bool spherical = false;       ///< rows are brought to unit length first (distances.h, prepare_rows)
  bool has_prices = false;      ///< balanced clusters: the order of scores is not that of distances
};

/// The integers that a pass leaves, one after the other: sums (SumWords), rows and weights of each cluster, rows moved.
class PassWords {
 public:
  explicit PassWords(const PassFacts& facts)
      : k_(static_cast<std::size_t>(facts.k)), sums_(facts.k, facts.dimension, facts.total_rows, facts.largest) {}

  const SumWords& sums() const { return sums_; }
  std::size_t size() const { return sums_.words() + 2 * k_ + 1; }

  std::span<std::int64_t> sums_of(std::span<std::int64_t> words) const { return words.first(sums_.words()); }
  std::span<std::int64_t> sizes_of(std::span<std::int64_t> words) const { return words.subspan(sums_.words(), k_); }
  std::span<std::int64_t> weights_of(std::span<std::int64_t> words) const {
    return words.subspan(sums_.words() + k_, k_);
  }
  std::int64_t& moved_of(std::span<std::int64_t> words) const { return words[sums_.words() + 2 * k_]; }

 private:
  std::size_t k_;
  SumWords sums_;
};

/// Keeps labels and sums from pass to pass. Used by one thread.
class LloydPass {
 public:
  virtual ~LloydPass() = default;

  /// Not collective. Gives every local row its nearest centroid, lowest index on ties, and brings the sums up to date.
  /// The centre of `nearest` is the same in all passes. Throws UserError (numerics) for rows that are not finite,
  /// (input) if the source gives other rows than it announced; the pass is then of no use any more but for reduce().
  virtual void run(const NearestCentroids& nearest) = 0;

  /// Collective: one reduction. `words` is [PassWords::size()] and the caller's own after it, which he has filled in;
  /// on return both are sums over ranks. After a run() that threw the first part is anything.
  virtual void reduce(std::span<std::int64_t> words, comm::Communicator& comm) = 0;

  /// [local rows], as the last run() left them; valid until the next.
  virtual std::span<const std::int32_t> labels() = 0;
};

/// Makes the pass over a rank's rows; source and workers outlive it. Not collective.
using MakePass =
    std::function<std::unique_ptr<LloydPass>(const RowSource& source, const PassFacts& facts, Workers& workers)>;

}  // namespace moextract::cluster
