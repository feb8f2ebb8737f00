// The keys of assemble, what `automatic` stands for, and which choices go together.
#include "core/error.h"
#include "stages/assemble/assemble.h"

namespace moextract::stages {

void describe(config::Section section, AssembleParams& p) {
  section.add_enum<Method>(
      "method", p.method,
      {{"variance", Method::variance,
        "MoEE: score variance, budget score_share, compensation mean_shift, recorded statistics, routing by cosine"},
       {"least_squares", Method::least_squares,
        "score elimination, budget threshold, compensation least_squares, streamed statistics, routing to the nearest "
        "centroid"}},
      "Preset: what automatic means for the other choices");
  section.add_enum<Statistics>(
      "statistics", p.statistics,
      {{"automatic", Statistics::automatic, "streamed where second moments are needed or the method is least_squares"},
       {"recorded", Statistics::recorded, "of the recorded sample of tokens, by the cluster each is labelled with"},
       {"streamed", Statistics::streamed,
        "of all tokens of all calibration images, by the expert each is sent to (stage moments)"}},
      "Where the experts' statistics come from");
  section.add_enum<moe::Score>(
      "score", p.score,
      {{"automatic", moe::Score::automatic, "by the method"},
       {"variance", moe::Score::variance, "variance of the hidden value over the expert's tokens (MoEE, VBP)"},
       {"second_moment", moe::Score::second_moment, "mean square of the hidden value"},
       {"mean", moe::Score::mean, "absolute mean of the hidden value"},
       {"weighted_variance", moe::Score::weighted_variance, "variance x squared length of the neuron's output weights"},
       {"elimination", moe::Score::elimination,
        "backward elimination: the neuron goes whose removal, compensated by the others, costs least"},
       {"random", moe::Score::random, "control: drawn from assemble.seed"}},
      "What decides which neurons an expert keeps");
  section.add_enum<moe::Budget>(
      "budget", p.budget,
      {{"automatic", moe::Budget::automatic, "by the method"},
       {"score_share", moe::Budget::score_share, "each expert holds the same share p of its summed score (MoEE)"},
       {"threshold", moe::Budget::threshold, "one threshold on the scores of all layers and experts (VBP)"},
       {"layer_share", moe::Budget::layer_share, "the same share of active neurons in each layer"},
       {"sensitivity", moe::Budget::sensitivity,
        "one threshold; the scores of a layer are scaled by what compressing it alone does to the model's answers"}},
      "How neurons are allotted to experts and layers");
  section
      .add("share", &p.share, "score_share: share p of an expert's summed score that it holds, if no target is given")
      .at_least(0)
      .at_most(1);
  section
      .add("target_macs", &p.target_macs,
           "Find the sizes by themselves: MACs of the whole model as a share of the dense model's")
      .at_least(0)
      .at_most(1);
  section
      .add(
          "target_active", &p.target_active,
          "Find the sizes by themselves: mean share of hidden neurons that a token uses, the router's products counted "
          "in")
      .at_least(0)
      .at_most(1);
  section
      .add("target_parameters", &p.target_parameters,
           "Find the sizes by themselves: parameters of the whole model as a share of the dense model's, alone or "
           "beside one of the other targets. With shared storage neurons are first cut from whole layers, and experts "
           "chosen among the rest")
      .at_least(0);
  section.add_enum<moe::Compensation>(
      "compensation", p.compensation,
      {{"automatic", moe::Compensation::automatic, "by the method"},
       {"none", moe::Compensation::none, "dropped neurons count as zero (MoEE as published)"},
       {"mean_shift", moe::Compensation::mean_shift,
        "an output bias for each expert takes up the mean of the dropped neurons over its tokens"},
       {"least_squares", moe::Compensation::least_squares,
        "output weights are refitted by least squares on second moments, and the bias"}},
      "What makes up for dropped neurons");
  section.add_enum<moe::Storage>(
      "storage", p.storage,
      {{"shared", moe::Storage::shared,
        "one copy of each neuron that any expert uses; with least_squares one output matrix is fitted for all experts"},
       {"own_output", moe::Storage::own_output,
        "least_squares: input weights shared, each expert has its own output weights"},
       {"low_rank", moe::Storage::low_rank,
        "least_squares: one output matrix for all experts, and a correction of rank assemble.rank for each"},
       {"separate", moe::Storage::separate, "each expert has its own copy of its neurons"}},
      "How weights are stored");
  section.add("rank", &p.rank, "low_rank: rank of each expert's correction").at_least(1);
  section.add_enum<OneCluster>(
      "one_cluster", p.one_cluster,
      {{"automatic", OneCluster::automatic, "dense with recorded statistics (MoEE), pruned with streamed ones"},
       {"dense", OneCluster::dense, "it stays as it was trained"},
       {"pruned", OneCluster::pruned, "one expert for all tokens, cut like any other: static pruning"}},
      "What becomes of a layer with one cluster");
  section.add(
      "static_layers", &p.static_layers,
      "Give a layer one expert for all tokens, and no router, where that has no larger expected output error at "
      "the same MACs than the layer's experts; what it frees goes to all layers. Needs second moments");
  section.add("min_neurons", &p.min_neurons, "Neurons that an expert keeps at least").at_least(1).in("neurons");
  section
      .add("min_tokens", &p.min_tokens,
           "An expert that fewer calibration tokens are sent to takes the statistics of its whole layer")
      .at_least(0)
      .in("tokens");
  section.add("ridge", &p.ridge, "Share of the mean variance added to the diagonal of second moments").at_least(1e-9);
  section
      .add("fisher", &p.fisher,
           "elimination: share of the gradients' directions in the metric of the output error; 0: all directions count "
           "alike")
      .at_least(0)
      .at_most(1);
  section
      .add("pooled_tokens", &p.pooled_tokens,
           "Mix this many tokens' worth of the whole layer's second moments into those of each expert")
      .at_least(0)
      .in("tokens");
  section
      .add("expert_power", &p.expert_power,
           "elimination with one threshold: scores of an expert are divided by this power of their mean, relative to "
           "its layer")
      .at_least(0)
      .at_most(1);
  section
      .add(
          "layer_power", &p.layer_power,
          "elimination with one threshold: scores of a layer are multiplied by this power of its mean squared gradient")
      .at_least(0)
      .at_most(2);
  section
      .add("sensitivity_images", &p.sensitivity_images,
           "sensitivity: calibration images on which each layer is tried alone")
      .at_least(1)
      .in("images");
  section
      .add("sensitivity_share", &p.sensitivity_share, "sensitivity: share of neurons kept in the layer that is tried")
      .at_least(0.01)
      .at_most(0.99);
  section.add("seed", &p.seed, "score random: seed");
  section.add_enum<Sequential>(
      "sequential", p.sequential,
      {{"none", Sequential::off, "every layer is fitted to what the dense model sends there"},
       {"experts", Sequential::experts,
        "layers that are cut are fitted one after the other: each to the hidden values in the model whose earlier "
        "layers "
        "are compressed, and to the dense model's residual stream less the compressed one's"},
       {"all", Sequential::all,
        "the same, and output weights of layers and class token experts that keep all neurons are fitted, too"}},
      "least_squares: fit the layers once more in order, so that later ones repair errors of earlier ones. Costs a "
      "pass "
      "over the calibration images with gradients (with moments.importance) and about three without, or half as many "
      "as "
      "layers more where streams do not fit into assemble.stream_gb");
  section
      .add("sequential_ridge", &p.sequential_ridge,
           "Share of the mean variance added to the diagonal where earlier errors are fitted; null: chosen for each "
           "expert such that what one half of the images teaches serves the other half best")
      .at_least(1e-9);
  section
      .add("stream_gb", &p.stream_gb,
           "sequential: memory of a rank for residual streams kept from layer to layer; what does not fit is computed "
           "again for each layer")
      .at_least(0)
      .in("GB")
      .runtime_only();
}

AssemblyChoices settle(const AssembleParams& params, const moe::RouterParams& router, bool has_prefix_tokens) {
  AssemblyChoices c{params, router, false};
  AssembleParams& p = c.params;
  const bool fitted = p.method == Method::least_squares;
  if (p.score == moe::Score::automatic) p.score = fitted ? moe::Score::elimination : moe::Score::variance;
  if (p.budget == moe::Budget::automatic) p.budget = fitted ? moe::Budget::threshold : moe::Budget::score_share;
  if (p.compensation == moe::Compensation::automatic)
    p.compensation = fitted ? moe::Compensation::least_squares : moe::Compensation::mean_shift;
  c.needs_covariance = moe::needs_covariance(p.score) || p.compensation == moe::Compensation::least_squares;
  if (p.statistics == Statistics::automatic)
    p.statistics = fitted || c.needs_covariance ? Statistics::streamed : Statistics::recorded;
  const bool streamed = c.streamed();
  if (!streamed && c.needs_covariance) {
    fail(ExitCode::config,
         "assemble.statistics: recorded statistics are means and variances, but score elimination and compensation "
         "least_squares need second moments: choose streamed");
  }
  if (p.one_cluster == OneCluster::automatic) p.one_cluster = streamed ? OneCluster::pruned : OneCluster::dense;
  if (c.router.kind == moe::RouterKind::automatic)
    c.router.kind = streamed ? moe::RouterKind::nearest : moe::RouterKind::cosine;
  if (c.router.class_token == moe::ClassToken::automatic)
    c.router.class_token = streamed ? moe::ClassToken::dense : moe::ClassToken::routed;
  if (!has_prefix_tokens) c.router.class_token = moe::ClassToken::routed;  // there is none
  if (!streamed && c.class_token_apart()) {
    fail(ExitCode::config,
         "router.class_token: dense and own need statistics of the class token apart: set assemble.statistics to "
         "streamed, or router.class_token to routed");
  }
  if (c.router.kind == moe::RouterKind::random && c.router.top_k > 1)
    fail(ExitCode::config, "router.top_k: random routing sends a token to one expert: set router.top_k to 1");

  const bool fits = p.compensation == moe::Compensation::least_squares;
  if (p.storage == moe::Storage::own_output && !fits) {
    fail(ExitCode::config,
         "assemble.storage: own_output goes with compensation least_squares (method least_squares): without a fit the "
         "experts' output weights are copies; choose shared or separate");
  }
  if (p.storage == moe::Storage::low_rank && !fits) {
    fail(ExitCode::config,
         "assemble.storage: low_rank corrects a fit and goes with compensation least_squares (method least_squares); "
         "choose shared or separate");
  }
  if (p.static_layers && !(c.needs_covariance && streamed)) {
    fail(ExitCode::config,
         "assemble.static_layers: output errors are compared by second moments: set assemble.method to least_squares, "
         "or "
         "assemble.static_layers to false");
  }
  if (p.sequential != Sequential::off && !(fits && streamed)) {
    fail(ExitCode::config,
         "assemble.sequential: layers are fitted in order by least squares on second moments: set "
         "assemble.compensation to least_squares (method least_squares) and assemble.statistics to streamed, or "
         "assemble.sequential to none");
  }
  if (p.target_active && p.target_macs)
    fail(ExitCode::config, "assemble: target_macs and target_active exclude each other: give one of them");
  if (!p.target_active && !p.target_macs && !p.target_parameters && p.budget != moe::Budget::score_share) {
    fail(ExitCode::config,
         "assemble: {} needs a budget: give target_active or target_macs, target_parameters, or one of the first two "
         "with the third; or set assemble.budget to score_share, which goes by assemble.share",
         fitted ? "method least_squares" : "this budget rule");
  }
  return c;
}

}  // namespace moextract::stages
