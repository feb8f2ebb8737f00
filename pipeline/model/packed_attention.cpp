#include "model/packed_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/packed_linear.h"
#include "model/splitting.h"

namespace moextract::model {
namespace {

/// Queries at a time: a multiple of what the kernels hold in registers. Their scores take 24 KB for 197 tokens.
constexpr std::int64_t kBlock = 30;

/// Of a thread: one head's keys and values, the scores of a block.
struct Scratch {
  PackedLinear keys, values;
  std::vector<float> scores;
  std::vector<const float*> rows;
};

template <typename T>
void grow(std::vector<T>& values, std::int64_t size) {
  if (values.size() < static_cast<std::size_t>(size)) values.resize(static_cast<std::size_t>(size));
}

/// Scores are a product with the keys as weights, outputs one with the values of each dimension as weights.
class Head {
 public:
  Head(const AttentionShape& shape, const AttentionInput& input, Precision precision, Scratch& scratch)
      : shape_(shape), input_(input), precision_(precision), scratch_(scratch) {
    grow(scratch.rows, shape.tokens);
  }

  /// Lays out the keys and values of a head.
  void load(std::int64_t image, std::int64_t head) {
    const std::int64_t width = shape_.head_width, tokens = shape_.tokens;
    const float* key = input_.k + image * tokens * input_.k_row + head * width;
    for (std::int64_t t = 0; t < tokens; ++t) scratch_.rows[static_cast<std::size_t>(t)] = key + t * input_.k_row;
    scratch_.keys.pack(scratch_.rows.data(), tokens, width, nullptr, precision_);
    scratch_.values.pack_transposed(input_.v + image * tokens * input_.v_row + head * width, input_.v_row, width,
                                    tokens, precision_);
    grow(scratch_.scores, kBlock * scratch_.keys.padded_out());
  }

  /// Queries begin .. begin + count, count <= kBlock, against the keys and values loaded last.
  void attend(std::int64_t image, std::int64_t head, std::int64_t begin, std::int64_t count, float* out) {
    const std::int64_t width = shape_.head_width, tokens = shape_.tokens;
    const float *query[kBlock], *weight[kBlock];
    float *score[kBlock], *mixed[kBlock], factor[kBlock];
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = image * shape_.queries + begin + i;
      query[i] = input_.q + row * input_.q_row + head * width;
      weight[i] = score[i] = scratch_.scores.data() + i * scratch_.keys.padded_out();
      mixed[i] = out + (row * shape_.heads + head) * width;
    }
    scratch_.keys.multiply(query, count, score, /*pad=*/true);
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    for (std::int64_t i = 0; i < count; ++i) factor[i] = 1.0f / kernels().exponentials(score[i], tokens, scale);
    scratch_.values.multiply(weight, count, mixed, /*pad=*/false);
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t j = 0; j < width; ++j) mixed[i][j] *= factor[i];
    }
  }

 private:
  const AttentionShape& shape_;
  const AttentionInput& input_;
  Precision precision_;
  Scratch& scratch_;
};

}  // namespace

void attend(const AttentionShape& shape, const AttentionInput& input, Precision precision, float* out) {
  // A part is a head of an image, or a share of its queries where heads are too few for the threads.
  const std::int64_t heads = shape.images * shape.heads, threads = split_threads();
  const std::int64_t blocks = (shape.queries + kBlock - 1) / kBlock;
  std::int64_t shares = 1;
  while (heads * shares % threads != 0 && heads * shares < 8 * threads && shares < std::min(blocks, threads)) ++shares;
  const std::int64_t rows = (blocks + shares - 1) / shares * kBlock;
  split(heads * shares, [&](std::int64_t part) {
    static thread_local Scratch scratch;
    Head head(shape, input, precision, scratch);
    const std::int64_t image = part / shares / shape.heads, number = part / shares % shape.heads;
    const std::int64_t first = part % shares * rows, last = std::min(first + rows, shape.queries);
    if (first >= last) return;
    head.load(image, number);
    for (std::int64_t begin = first; begin < last; begin += kBlock) {
      head.attend(image, number, begin, std::min(kBlock, last - begin), out);
    }
  });
}

}  // namespace moextract::model
