// A model's trees and results as named columns, for a tensor file, and as JSON, for a page or a script.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cluster/hdbscan.h"

namespace moextract::cluster::hdbscan {

/// A column of numbers. `kind` is "F64", "I64" or "F32" as safetensors spells them.
struct Column {
  std::string name;
  std::string kind;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;  ///< row-major, little endian
};

/// spanning_tree.{low,high,weight}, linkage.{left,right,distance,size}, condensed.{parent,child,lambda,size},
/// clusters.{node,stability,persistence,size,centroid}, sample.{number,label,probability,outlier_score,core_distance};
/// with PCA also pca.{mean,axes,variances}.
std::vector<Column> columns(const Model& model);

/// One JSON object: settings, counts, the clusters, and the condensed tree's CLUSTERS (id, parent, birth and death as
/// lambda, size, label or null), which is what a drawing needs: its size does not grow with the rows. Infinite lambdas
/// are written as null. Numbers are the shortest that read back as the same double.
std::string to_json(const Model& model);

}  // namespace moextract::cluster::hdbscan
