// Which instruction set the kernels of packed_kernel.h run on; the results are the same bits.
#pragma once

#include "model/packed_kernel.h"

namespace moextract::model {

enum class PackedSet { portable, avx2, avx512, avx512_vnni };
bool is_supported(PackedSet set);
/// For tests and measurements. The best supported set is taken otherwise.
void choose_packed_set(PackedSet set);
/// The best supported set, or the chosen one.
PackedSet packed_set();
const PackedKernels& kernels();

}  // namespace moextract::model
