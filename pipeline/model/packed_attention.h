// Softmax attention for inference on a CPU, a head and a block of queries at a time: the scores of a block stay in the
// cache and are never written as a whole.
#pragma once

#include <cstdint>

#include "model/precision.h"

namespace moextract::model {

/// Where queries, keys and values stand: value (image, token, head, i) at
/// base + (image * tokens + token) * row + head * head_width + i, tokens = queries for q.
struct AttentionInput {
  const float *q, *k, *v;
  std::int64_t q_row, k_row, v_row;  ///< distance of a token from the next
};

struct AttentionShape {
  std::int64_t images, queries, tokens, heads, head_width;
};

/// out [images, queries, heads * head_width] = softmax(q k^T / sqrt(head_width)) v. Split over threads (see
/// splitting.h); each query's result depends on its own image alone.
void attend(const AttentionShape& shape, const AttentionInput& input, Precision precision, float* out);

}  // namespace moextract::model
