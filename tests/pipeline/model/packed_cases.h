// Values and instruction sets for the tests of packed products.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "model/instruction_set.h"

namespace moextract::model::test {

inline at::Tensor values(at::IntArrayRef shape, double seed) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return (((at::arange(n, at::kDouble) + 1.0) * (12.9898 + seed)).sin() * 43758.5453)
      .frac()
      .reshape(shape)
      .to(at::kFloat);
}

/// The portable one first, the best last.
inline std::vector<PackedSet> supported_sets() {
  std::vector<PackedSet> sets;
  for (const PackedSet set : {PackedSet::portable, PackedSet::avx2, PackedSet::avx512, PackedSet::avx512_vnni}) {
    if (is_supported(set)) sets.push_back(set);
  }
  return sets;
}

/// Leaves the best set chosen.
struct EverySet {
  ~EverySet() { choose_packed_set(supported_sets().back()); }
};

}  // namespace moextract::model::test
