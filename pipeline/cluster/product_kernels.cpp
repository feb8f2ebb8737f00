#include "cluster/product_kernels.h"

#include <atomic>

#include "cluster/product_kernel_sets.h"
#include "core/error.h"

namespace moextract::cluster {
namespace {

std::atomic<int> chosen{-1};

}  // namespace

bool is_supported(InstructionSet set) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (set) {
    case InstructionSet::portable:
      return true;
    case InstructionSet::avx2:
      return avx2;
    case InstructionSet::avx512:
      return avx512;
    case InstructionSet::avx512_vnni:
      return avx512 && __builtin_cpu_supports("avx512vnni");
  }
#endif
  return set == InstructionSet::portable;
}

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx512_vnni:
      return "avx512-vnni";
    default:
      return "portable";
  }
}

const ProductKernels& kernels_for(InstructionSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::avx2:
      return avx2_kernels();
    case InstructionSet::avx512:
      return avx512_kernels();
    case InstructionSet::avx512_vnni:
      return avx512_vnni_kernels();
    default:
      break;
  }
#endif
  return portable_kernels();
}

const ProductKernels& kernels() {
  const int wanted = chosen.load();
  if (wanted >= 0) return kernels_for(static_cast<InstructionSet>(wanted));
  static const ProductKernels* const best = [] {
    for (const InstructionSet set : {InstructionSet::avx512_vnni, InstructionSet::avx512, InstructionSet::avx2}) {
      if (is_supported(set)) return &kernels_for(set);
    }
    return &portable_kernels();
  }();
  return *best;
}

void choose_instruction_set(InstructionSet set) {
  MOEX_ASSERT(is_supported(set), "the processor cannot run these kernels");
  chosen.store(static_cast<int>(set));
}

}  // namespace moextract::cluster
