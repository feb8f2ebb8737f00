// Eigenvalues and eigenvectors of a dense symmetric matrix: Householder reduction to tridiagonal form, then the
// implicit QL method (Wilkinson and Reinsch 1971; the form of EISPACK's tred2 and tql2).
#pragma once

#include <cstdint>
#include <vector>

namespace moextract::cluster {

struct SymmetricEigen {
  std::vector<double> values;   ///< [n], descending
  std::vector<double> vectors;  ///< [n, n], row i belongs to values[i]; unit length; its entry of largest magnitude
                                ///< (the first of equals) is positive
};

/// `matrix` is [n, n], symmetric, finite; only its lower triangle is read. One thread, a fixed order of operations:
/// the same bits wherever sqrt is correctly rounded. Some 3 n^3 operations.
/// Throws UserError (numerics) should the iteration not converge.
SymmetricEigen symmetric_eigen(std::vector<double> matrix, std::int64_t n);

}  // namespace moextract::cluster
