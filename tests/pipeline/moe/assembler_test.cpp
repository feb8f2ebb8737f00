// Experts and pruned layers out of a dense MLP: against the dense MLP, a slow reference and each other.
#include <algorithm>
#include <cmath>

#include "moe/router.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

TEST(Assembler, AllNeuronsInEveryExpertIsTheDenseMlp) {
  const at::Tensor x = random_tensor("x", {3, 5, kWidth});
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    const TensorMap tensors = expert_tensors(all_neurons(4), storage, Compensation::mean_shift);
    EXPECT_LT(largest_difference(ExpertMlp(0, tensors).forward(x, nullptr), dense_answer(x)), 1e-5);
  }
}

TEST(Assembler, SharedAndSeparateStorageAreTheSameExperts) {
  const at::Tensor x = random_tensor("x", {4, 9, kWidth});
  for (const Compensation compensation : {Compensation::none, Compensation::mean_shift}) {
    const TensorMap shared = expert_tensors(kSets, Storage::shared, compensation);
    const TensorMap separate = expert_tensors(kSets, Storage::separate, compensation);
    EXPECT_EQ(shared.at(kPrefix + "fc1.weight").size(0), 8);  // the union, without 1 and 8
    EXPECT_EQ(separate.at(kPrefix + "fc1.weight").size(0), 10);
    EXPECT_LT(largest_difference(ExpertMlp(0, shared).forward(x, nullptr), ExpertMlp(0, separate).forward(x, nullptr)),
              1e-6);
    for (const TensorMap* tensors : {&shared, &separate}) {
      const LayerSummary summary = summarise_layer(0, *tensors);
      EXPECT_EQ(summary.k, 3);
      EXPECT_EQ(summary.sizes, (std::vector<std::int64_t>{4, 1, 5}));
      EXPECT_EQ(summary.union_size, 8);
    }
  }
  const LayerSummary dense = summarise_layer(0, dense_tensors());
  EXPECT_EQ(dense.k, 0);
  EXPECT_TRUE(dense.sizes.empty());
  EXPECT_EQ(dense.union_size, kHidden);
}

TEST(Assembler, KeysAreTheMeanInputsAtUnitLength) {
  const ClusterMoments m = random_moments(3);
  const at::Tensor keys = expert_tensors(kSets, Storage::shared).at(kPrefix + "router.weight");
  for (std::int64_t c = 0; c < 3; ++c) {
    double length = 0;
    for (const double v : m.x_mean_of(c)) length += v * v;
    length = std::sqrt(length);
    for (std::int64_t j = 0; j < kWidth; ++j) {
      EXPECT_NEAR(keys[c][j].item<float>(), m.x_mean_of(c)[static_cast<std::size_t>(j)] / length, 1e-7);
    }
  }
  EXPECT_EQ(unit_rows(at::zeros({2, 3})).abs().max().item<float>(), 0.0f);
}

// Rows of one cluster go through the dense MLP; the expert drops neurons and shifts its bias by their means over these
// very rows. Then the mean output is the dense one's, whatever was dropped.
TEST(Assembler, MeanShiftKeepsTheMeanOutputOfACluster) {
  const TensorMap dense = dense_tensors();
  const at::Tensor x = random_tensor("rows", {64, kWidth});
  const at::Tensor h = at::gelu(at::linear(x, dense.at(kPrefix + "fc1.weight"), dense.at(kPrefix + "fc1.bias")));
  ClusterMoments m = random_moments(1);
  const at::Tensor mean = h.to(at::kDouble).mean(0);
  for (std::int64_t j = 0; j < kHidden; ++j) m.h_mean[static_cast<std::size_t>(j)] = mean[j].item<double>();
  const Sets sets{{1, 4, 7}};
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    TensorMap tensors = dense;
    assemble_experts(0, m, sets, storage, Compensation::mean_shift, tensors);
    const at::Tensor answer = make_mlp(0, tensors)->forward(x, nullptr);
    EXPECT_LT(largest_difference(answer.mean(0), dense_answer(x).mean(0)), 1e-5);
    EXPECT_GT(largest_difference(answer, dense_answer(x)), 0.05) << "single rows do differ";
    TensorMap without = dense;
    assemble_experts(0, m, sets, storage, Compensation::none, without);
    EXPECT_GT(largest_difference(make_mlp(0, without)->forward(x, nullptr).mean(0), dense_answer(x).mean(0)), 0.01);
  }
  TensorMap pruned = dense;
  prune_layer(0, m, sets[0], Compensation::mean_shift, pruned);
  EXPECT_LT(largest_difference(make_mlp(0, pruned)->forward(x, nullptr).mean(0), dense_answer(x).mean(0)), 1e-5);
}

TEST(Assembler, PruningEqualsASlowReference) {
  const TensorMap dense = dense_tensors();
  const ClusterMoments m = random_moments(1);
  const std::vector<std::int64_t> kept{0, 2, 3, 8};
  const at::Tensor x = random_tensor("x", {7, kWidth});
  const auto at2 = [&](const char* name, std::int64_t i, std::int64_t j) {
    return dense.at(kPrefix + name)[i][j].item<double>();
  };
  for (const Compensation compensation : {Compensation::none, Compensation::mean_shift}) {
    TensorMap tensors = dense;
    prune_layer(0, m, kept, compensation, tensors);
    EXPECT_EQ(tensors.at(kPrefix + "fc1.weight").sizes().vec(), (std::vector<std::int64_t>{4, kWidth}));
    const at::Tensor answer = make_mlp(0, tensors)->forward(x, nullptr);
    for (std::int64_t row = 0; row < 7; ++row) {
      for (std::int64_t out = 0; out < kWidth; ++out) {
        double expected = dense.at(kPrefix + "fc2.bias")[out].item<double>();
        for (std::int64_t j = 0; j < kHidden; ++j) {
          double h = dense.at(kPrefix + "fc1.bias")[j].item<double>();
          for (std::int64_t i = 0; i < kWidth; ++i) h += at2("fc1.weight", j, i) * x[row][i].item<double>();
          h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0)));
          const bool keep = std::find(kept.begin(), kept.end(), j) != kept.end();
          if (!keep) h = compensation == Compensation::mean_shift ? m.h_mean[static_cast<std::size_t>(j)] : 0.0;
          expected += at2("fc2.weight", out, j) * h;
        }
        EXPECT_NEAR(answer[row][out].item<double>(), expected, 1e-5);
      }
    }
  }
}

TEST(RankGlobally, TakesTheBestOfAllLayersWithAMinimumInEach) {
  const std::vector<std::vector<double>> variance{{9, 1, 8}, {0.1, 0.3, 0.2}, {7, 7, 0}};
  using Kept = std::vector<std::vector<std::int64_t>>;
  EXPECT_EQ(rank_globally(variance, 5, 1), (Kept{{0, 2}, {1}, {0, 1}}));
  EXPECT_EQ(rank_globally(variance, 4, 1), (Kept{{0, 2}, {1}, {0}}));  // a tie goes to the lower index
  EXPECT_EQ(rank_globally(variance, 6, 2), (Kept{{0, 2}, {1, 2}, {0, 1}}));
  EXPECT_EQ(rank_globally(variance, 9, 1), (Kept{{0, 1, 2}, {0, 1, 2}, {0, 1, 2}}));
  EXPECT_EQ(rank_globally(variance, 99, 1), (Kept{{0, 1, 2}, {0, 1, 2}, {0, 1, 2}}));
  EXPECT_EQ(rank_globally(variance, 0, 0), (Kept{{0}, {1}, {0}}));  // no layer goes empty
  const std::vector<std::vector<double>> equal{{1, 1}, {1, 1}};
  EXPECT_EQ(rank_globally(equal, 3, 1), (Kept{{0, 1}, {0}}));  // and to the earlier layer
}

TEST(Assembler, SetsMustBeAscendingAndNotEmpty) {
  EXPECT_THROW(expert_tensors({{0, 1}, {}}, Storage::shared), BugError);
  EXPECT_THROW(expert_tensors({{0, 1}, {3, 2}}, Storage::shared), BugError);
}

}  // namespace
}  // namespace moextract::moe::test
