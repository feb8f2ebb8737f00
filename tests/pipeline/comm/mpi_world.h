// For tests that run on several ranks under mpirun. Link moextract_mpi_test_main and register with
// moextract_test(... RANKS 1 2 ...): it brings main(), which starts MPI, runs the tests on all ranks side by side,
// prints the failures of every rank with the rank on rank 0 and agrees on the exit code.
//
// Every rank runs every test. A test that ends early on one rank while the others wait for it in a collective is ended
// with the whole job when it has lasted MOEXTRACT_TEST_DEADLINE seconds (60): each rank then prints what it knows.
#pragma once

#include "comm/communicator.h"

namespace moextract::comm {

/// All ranks of this test program. The test runner's own messages go over another communicator.
Communicator& world();

}  // namespace moextract::comm
