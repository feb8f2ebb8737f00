// The map under which distances of inputs are those of standardised pre-activations.
#pragma once

#include "cluster/row_moments.h"
#include "core/workers.h"
#include "stages/cluster/row_map.h"

namespace moextract::stages {

/// The affine map y = T (x - mean) with |T (a - b)|^2 = sum over hidden neurons j of (w_j . (a - b))^2 / var(w_j . x):
/// T is the symmetric square root of W1^T diag(1 / var) W1. As many values as an input has therefore stand for all
/// pre-activations, each scaled to variance 1, and the nearest centroid stays a linear function of the input.
/// `first` holds W1 [hidden, width] (its bias cancels); `inputs` are moments of x over the rows. Neurons that do not
/// vary are left out; where none does, T is the identity. In double in a fixed order, rounded to float; some
/// 2 hidden width^2 + 3 width^3 operations. Throws UserError (numerics) as symmetric_eigen() does.
RowMap preactivation_map(const RowMap& first, const cluster::RowMoments& inputs, Workers& workers);

}  // namespace moextract::stages
