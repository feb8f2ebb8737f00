// HDBSCAN's condensed tree as boxes.
#pragma once

#include <string>

#include "report/results.h"

namespace moextract {

/// A small picture: each cluster of the tree is a box as wide as it has rows, over its parent's width, from its birth
/// (top) to its death (bottom) in density; chosen clusters are filled. Infinite and unknown deaths reach the bottom.
std::string draw_condensed_tree(const Clustering& clustering);

}  // namespace moextract
