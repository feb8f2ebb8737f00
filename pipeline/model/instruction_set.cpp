#include "model/instruction_set.h"

#include <atomic>

#include "core/error.h"

namespace moextract::model {
namespace {

std::atomic<int> chosen{-1};

PackedSet best_set() {
  for (const PackedSet set : {PackedSet::avx512_vnni, PackedSet::avx512, PackedSet::avx2}) {
    if (is_supported(set)) return set;
  }
  return PackedSet::portable;
}

}  // namespace

bool is_supported(PackedSet set) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  if (set == PackedSet::avx2) return avx2;
  if (set == PackedSet::avx512) return avx512;
  if (set == PackedSet::avx512_vnni) return avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return set == PackedSet::portable;
}

void choose_packed_set(PackedSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
  chosen.store(static_cast<int>(set));
}

PackedSet packed_set() {
  static const PackedSet best = best_set();
  const int wanted = chosen.load(std::memory_order_relaxed);
  return wanted >= 0 ? static_cast<PackedSet>(wanted) : best;
}

const PackedKernels& kernels() {
#if defined(__x86_64__)
  switch (packed_set()) {
    case PackedSet::avx512_vnni:
      return kAvx512VnniKernels;
    case PackedSet::avx512:
      return kAvx512Kernels;
    case PackedSet::avx2:
      return kAvx2Kernels;
    case PackedSet::portable:
      break;
  }
#endif
  return kPortableKernels;
}

}  // namespace moextract::model
