// The nearest row of another component, for the rows whose neighbour list no longer holds one.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cluster/hdbscan_mutual_reachability.h"
#include "cluster/hdbscan_rows.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster::hdbscan {

struct ForeignQuery {
  std::int32_t row = 0;
  double limit = 0;  ///< edges heavier than this need not be found
};

struct ForeignAnswer {
  std::int32_t row = 0;
  std::int32_t other = -1;  ///< the row's smallest edge leads there; -1: all its edges are heavier than `weight`
  double weight = 0;
};

/// Collective; the same input on every rank, the same answers on every rank. `component` is [n]. An answer's `weight`
/// is that of the smallest edge from the row to another component, or, with `other` = -1, a weight that all such edges
/// exceed: at most the query's limit, and less if a lighter edge of the row's component was found meanwhile. Which of
/// the two an answer is can depend on timing where that edge is not the smallest of its component; the smallest of
/// each component is always there. Throws Stopped as Leave says.
std::vector<ForeignAnswer> search_foreign(const MutualReachability& reach, const FastRows& fast,
                                          std::span<const std::int32_t> component, std::vector<ForeignQuery> queries,
                                          comm::Communicator& comm, Workers& workers,
                                          const std::function<bool()>& should_stop = {});

}  // namespace moextract::cluster::hdbscan
