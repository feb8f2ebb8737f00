// The minimum spanning tree of the mutual reachability graph, exactly.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/hdbscan_mutual_reachability.h"
#include "cluster/hdbscan_neighbours.h"
#include "cluster/hdbscan_rows.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster::hdbscan {

/// What the tree cost.
struct SpanningTreeEffort {
  std::int64_t list_rounds = 0;    ///< rounds decided by the neighbour lists alone
  std::int64_t search_rounds = 0;  ///< rounds that compared rows
  std::int64_t searched_rows = 0;  ///< rows compared with all others, summed over rounds
};

/// Collective; the same input and the same result on every rank. The n - 1 edges in ascending order (Edge): THE
/// minimum spanning tree under that total order, whatever the ranks and threads.
///
/// Boruvka's rounds: the smallest edge that leaves a component is in the tree. For most components the neighbour
/// lists hold it and prove it: what a list leaves out is farther away than its last entry. Where they do not, the rows
/// that could have a smaller edge are compared with all rows of other components. The largest component is never
/// searched: others grow into it. Throws Stopped, after any round and within those that compare rows, as Leave says.
std::vector<Edge> minimum_spanning_tree(const MutualReachability& reach, const FastRows& fast,
                                        const NeighbourLists& lists, comm::Communicator& comm, Workers& workers,
                                        SpanningTreeEffort* effort = nullptr,
                                        const std::function<bool()>& should_stop = {});

}  // namespace moextract::cluster::hdbscan
