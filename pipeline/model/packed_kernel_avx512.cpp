// Packed products for AVX-512F and AVX-512BW: 12 rows by two panels, 24 of the 32 registers are sums.
// GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised ones.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "model/packed_vec512.h"
#include "model/row_kernel_loops.h"

namespace moextract::model {

const PackedKernels kAvx512Kernels = kernels_of<Vec512<false>, 12, 2, 12, 2>();

}  // namespace moextract::model
