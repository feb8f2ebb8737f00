// The forward pass without gradients: attention and row kernels against PyTorch, and the same bits in any batch, on any
// number of threads, on every instruction set.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <numeric>
#include <vector>

#include "model/index_tensor.h"
#include "model/packed_attention.h"
#include "model/splitting.h"
#include "tests/pipeline/model/model_cases.h"
#include "tests/pipeline/model/packed_cases.h"

namespace moextract::model::test {
namespace {

TEST(Inference, AttentionIsPyTorchsInDoublePrecision) {
  const EverySet restore;
  for (const AttentionShape shape : {AttentionShape{2, 5, 5, 2, 4}, AttentionShape{1, 1, 33, 3, 16},
                                     AttentionShape{3, 197, 197, 2, 24}, AttentionShape{1, 2, 50, 1, 64}}) {
    const std::int64_t width = shape.heads * shape.head_width;
    const at::Tensor q = random_tensor("q", {shape.images, shape.queries, width}, 2.0),
                     kv = random_tensor("kv", {shape.images, shape.tokens, 2 * width}, 2.0);
    const auto by_head = [&](const at::Tensor& t) {
      return t.to(at::kDouble).reshape({t.size(0), t.size(1), shape.heads, shape.head_width}).transpose(1, 2);
    };
    const at::Tensor expected = at::scaled_dot_product_attention(by_head(q), by_head(kv.narrow(2, 0, width)),
                                                                 by_head(kv.narrow(2, width, width)))
                                    .transpose(1, 2)
                                    .reshape({shape.images, shape.queries, width});
    const AttentionInput input{q.const_data_ptr<float>(),
                               kv.const_data_ptr<float>(),
                               kv.const_data_ptr<float>() + width,
                               width,
                               2 * width,
                               2 * width};
    at::Tensor first;
    for (const PackedSet set : supported_sets()) {
      choose_packed_set(set);
      at::Tensor y = at::empty({shape.images, shape.queries, width});
      attend(shape, input, Precision::float32, y.data_ptr<float>());
      EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 1e-5);
      if (!first.defined()) first = y.clone();
      EXPECT_TRUE(at::equal(y, first)) << "set " << static_cast<int>(set);
      attend(shape, input, Precision::bfloat16, y.data_ptr<float>());
      EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 0.1);
      EXPECT_FALSE(at::equal(y, first));
      attend(shape, input, Precision::int16, y.data_ptr<float>());
      EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 5e-3);
      EXPECT_FALSE(at::equal(y, first));
    }
  }
}

TEST(Inference, LayerNormIsPyTorchsInDoublePrecision) {
  const EverySet restore;
  for (const std::int64_t width : {3, 16, 40, 192, 770}) {
    const at::Tensor x = random_tensor("x", {5, width}) * 3 + 20, w = random_tensor("w", {width}),
                     b = random_tensor("b", {width});
    const at::Tensor expected = at::layer_norm(x.to(at::kDouble), {width}, w.to(at::kDouble), b.to(at::kDouble), 1e-6);
    at::Tensor first;
    for (const PackedSet set : supported_sets()) {
      choose_packed_set(set);
      at::Tensor y = at::empty({5, width});
      for (std::int64_t r = 0; r < 5; ++r) {
        kernels().layer_norm(x.const_data_ptr<float>() + r * width, w.const_data_ptr<float>(),
                             b.const_data_ptr<float>(), width, 1e-6f, y.data_ptr<float>() + r * width);
      }
      EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 3e-5);
      if (!first.defined()) first = y.clone();
      EXPECT_TRUE(at::equal(y, first)) << "set " << static_cast<int>(set);
    }
  }
}

struct Case {
  const char* name;
  bool class_token, distilled, short_last_block;
};

TEST(Inference, BitsDependOnNothingButTheImage) {
  const EverySet restore;
  const at::NoGradGuard no_grad;
  for (const Case& c : {Case{"plain", true, false, false}, Case{"short", true, false, true},
                        Case{"mean", false, false, false}, Case{"distilled and short", true, true, true}}) {
    VitParams params = tiny_params();
    params.image_size = 32;
    params.width = 24;
    params.heads = 2;
    params.hidden = 56;
    params.class_token = c.class_token;
    params.distilled = c.distilled;
    params.short_last_block = c.short_last_block;
    const TensorMap tensors = initial_vit_tensors(params, 3);
    const at::Tensor images = random_tensor("images", {5, params.channels, 32, 32}, 1.0);
    for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int16}) {
      choose_packed_set(supported_sets().back());
      const Vit vit(params, tensors, make_dense_mlp, precision);
      const at::Tensor all = vit.logits(images);
      for (std::int64_t i = 0; i < 5; ++i) {
        EXPECT_TRUE(same_bits(vit.logits(images.narrow(0, i, 1)), all.narrow(0, i, 1))) << c.name << ", image " << i;
      }
      for (const int threads : {2, 3}) {
        Workers workers(threads);
        const SplitScope scope(workers);
        EXPECT_TRUE(same_bits(vit.logits(images), all)) << c.name << ", " << threads << " threads";
        EXPECT_TRUE(same_bits(vit.logits(images.narrow(0, 2, 1)), all.narrow(0, 2, 1))) << c.name;
      }
      bool observed = false;
      EXPECT_TRUE(same_bits(vit.logits(images, [&](std::int64_t, const MlpTrace&) { observed = true; }), all))
          << c.name;
      EXPECT_TRUE(observed);
      choose_packed_set(PackedSet::portable);
      const at::Tensor portable = Vit(params, tensors, make_dense_mlp, precision).logits(images);
      EXPECT_TRUE(same_bits(portable, all)) << c.name << ", portable set";
    }
    choose_packed_set(supported_sets().back());
    const at::Tensor packed = Vit(params, tensors).logits(images);
    const at::AutoGradMode gradients(true);  // LibTorch's operations
    EXPECT_LT(largest_difference(packed, Vit(params, tensors).logits(images)), 1e-5) << c.name;
  }
}

TEST(Inference, StepByStepIsTheWhole) {
  for (const bool short_last_block : {false, true}) {
    VitParams params = tiny_params();
    params.short_last_block = short_last_block && params.class_token;
    const Vit vit(params, initial_vit_tensors(params, 3));
    const at::Tensor images = random_tensor("images", {3, params.channels, params.image_size, params.image_size});
    const auto in_steps = [&] {
      at::Tensor x = vit.embed(images);
      for (std::int64_t layer = 0; layer < params.depth; ++layer) {
        const at::Tensor before = x.clone();
        at::Tensor residual, y;
        const at::Tensor after = vit.advance(layer, x, [&](std::int64_t seen, const MlpTrace& trace) {
          EXPECT_EQ(seen, layer);
          residual = trace.residual;
          y = trace.y;
        });
        EXPECT_TRUE(at::equal(residual + y, after)) << "the stream is what the MLP's output is added to";
        EXPECT_TRUE(at::equal(vit.advance(layer, before), after)) << "with or without an observer";
        x = after;
      }
      return vit.read_out(x);
    };
    EXPECT_TRUE(at::equal(in_steps(), vit.logits(images)));
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(in_steps(), vit.logits(images)));
  }
}

TEST(Inference, RecordsTheRowsThatTracesHold) {
  const EverySet restore;
  for (const bool distilled : {false, true}) {
    VitParams params = tiny_params();
    params.distilled = distilled;
    const TensorMap tensors = initial_vit_tensors(params, 3);
    const at::Tensor images = random_tensor("images", {3, params.channels, params.image_size, params.image_size});
    const std::int64_t tokens = params.tokens();
    std::vector<std::int64_t> all(static_cast<std::size_t>(3 * tokens));
    std::iota(all.begin(), all.end(), 0);
    const std::vector<std::int64_t> few{1, tokens - 1, tokens, tokens + 3, 2 * tokens, 2 * tokens + 1};
    for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int16}) {
      const Vit vit(params, tensors, make_dense_mlp, precision);
      for (const bool gradients : {false, true}) {  // packed products, LibTorch's operators
        const at::AutoGradMode mode(gradients);
        std::vector<MlpTrace> traces;
        vit.logits(images, [&](std::int64_t, const MlpTrace& trace) { traces.push_back(trace); });
        for (const std::vector<std::int64_t>& rows : {few, all}) {
          for (const bool hidden : {true, false}) {
            Workers workers(2);
            const SplitScope scope(workers);
            std::int64_t seen = 0;
            vit.record(images, rows, hidden, [&](std::int64_t layer, const at::Tensor& x, const at::Tensor& h) {
              ASSERT_EQ(layer, seen++);
              const MlpTrace& trace = traces.at(static_cast<std::size_t>(layer));
              const at::Tensor index = index_tensor(rows);
              EXPECT_TRUE(same_bits(x.contiguous(), rows_of(trace.x, index).contiguous())) << "layer " << layer;
              ASSERT_EQ(h.defined(), hidden);
              if (hidden) {
                EXPECT_TRUE(same_bits(h.contiguous(), rows_of(trace.h, index).contiguous())) << "layer " << layer;
              }
            });
            EXPECT_EQ(seen, params.depth);
          }
        }
      }
    }
  }
}

TEST(Inference, WritesHiddenValuesForThoseWhoAsk) {
  const VitParams params = tiny_params();
  const Vit vit(params, initial_vit_tensors(params, 3));
  const at::Tensor images = random_tensor("images", {2, params.channels, params.image_size, params.image_size});
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    for (const bool hidden : {false, true}) {
      const auto see = [&](std::int64_t, const MlpTrace& trace) {
        EXPECT_TRUE(trace.x.defined());
        EXPECT_EQ(trace.h.defined(), hidden);
      };
      EXPECT_TRUE(at::equal(vit.logits(images, Observer(see, hidden)), vit.logits(images)));
    }
  }
}

TEST(Splitting, DealsAllRowsInUnits) {
  const auto sizes = [](std::int64_t n, std::int64_t most) {
    const RowBlocks blocks(n, most);
    std::vector<std::int64_t> sizes;
    for (std::int64_t b = 0; b < blocks.count(); ++b) sizes.push_back(blocks.size(b));
    EXPECT_EQ(blocks.begin(blocks.count()), n);
    return sizes;
  };
  using Sizes = std::vector<std::int64_t>;
  EXPECT_EQ(sizes(400, 180), (Sizes{132, 132, 136}));  // alone: three blocks of at most 180
  Workers workers(2);
  const SplitScope scope(workers);
  EXPECT_EQ(split_threads(), 2);
  EXPECT_EQ(sizes(197, 180), (Sizes{96, 101}));
  EXPECT_EQ(sizes(400, 180), (Sizes{96, 108, 96, 100}));
  EXPECT_EQ(sizes(13, 180), (Sizes{12, 1}));
  EXPECT_EQ(sizes(1, 180), (Sizes{1}));
  EXPECT_EQ(sizes(0, 180), (Sizes{}));
  std::vector<int> seen(7, 0);
  split(7, [&](std::int64_t part) {
    EXPECT_EQ(split_threads(), 1) << "a part runs alone";
    ++seen[static_cast<std::size_t>(part)];
  });
  EXPECT_EQ(seen, std::vector<int>(7, 1));
}

}  // namespace
}  // namespace moextract::model::test
