// Packed products for AVX-512 with VNNI: products of 16-bit integers are multiplied and added by one instruction.
// GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised ones.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "model/packed_vec512.h"
#include "model/row_kernel_loops.h"

namespace moextract::model {

const PackedKernels kAvx512VnniKernels = kernels_of<Vec512<true>, 12, 2, 12, 2>();

}  // namespace moextract::model
