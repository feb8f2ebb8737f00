// The results of one run as the report reads them: the one description of the results JSON, and its tolerant reader.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moextract {

// The results file (`results.json`) is what the report stage writes and the only thing that a report is made from.
// Keys marked * are required, every other one may be absent or null: what is unknown is shown as "-", never guessed.
// NaN and infinity count as absent, for JSON has neither. Unknown keys are ignored, so that a later version may add
// some.
//
//   {"format": "moextract-results" *, "format_version": 1 *,
//    "title", "program_version", "created",
//    "run":      {"name", "folder", "ranks", "threads_per_rank", "hosts": [text], "device"},
//    "model":    {"name", "depth", "width", "hidden", "tokens", "classes", "parameters", "macs_per_image"},
//    "data":     {"calibration"|"train"|"validation": {"summary", "images", "skipped"}},
//    "variants": [{"name" *: "dense|vbp|vbp-finetuned|experts|experts-finetuned", "label", "method":
//    "dense|vbp|moee|fitted",
//                  "finetuned": bool, "images" *, "skipped", "top1_correct" *, "top5_correct", "macs_per_image" *,
//                  "parameters" *, "images_per_second",
//                  "versus_dense": {"gained": images only this one gets right, "lost": only the dense model,
//                                   "agreeing": the same class from both}}],
//    "layers":   [{"layer", "kind": "experts|dense|pruned", "k", "hidden", "sizes": [int], "union", "sum_sizes",
//                  "token_share": [number], "active_share", "overlap": [[neurons that two experts share]],
//                  "router_agreement", "router_entropy", "usage_entropy", "class_information", "position_information",
//                  "output_error": [number], "modularity",
//                  "specialisation": {"grid": patches a side, "experts": [{"positions": [tokens from each patch, row by
//                  row], "classes": [{"class", "tokens", "lift"}]}]}}],
//    "vbp_layers": [{"layer", "hidden", "kept"}],
//    "clusters": [{"layer", "tap", "method": "kmeans|hdbscan", "k", "rows", "inertia", "iterations", "converged": bool,
//                  "sizes": [int], "history": [inertia after each iteration], "quality": {"silhouette",
//                  "davies_bouldin"}, "seed_agreement": {"mean"}, "automatic_k": {"criterion", "tried": [{"k", "score",
//                  "error"}]}, "clusters_found", "sampled_rows", "noise_rows", "held_back": {"rows", "ari",
//                  "same_noise"}, "tree": [{"id", "parent" (null: the root), "birth", "death" (null: infinite), "size",
//                  "label" (null:
//                            not chosen)}]}],
//    "finetune": [{"variant", "step": [int], "loss": [number], "learning_rate": [number], "seconds"}],
//    "time":     [{"stage", "seconds", "reused": bool}],
//    "settings": {the nested configuration}, "files": {name: path}, "notes": [text]}
//
// Units: images and correct answers are exact counts; MACs and parameters are plain numbers (not G, not M); shares lie
// in 0..1; times are seconds of wall clock, of the slowest rank.

inline constexpr const char* kResultsFormat = "moextract-results";
inline constexpr int kResultsFormatVersion = 1;

using Number = std::optional<double>;
using Count = std::optional<std::int64_t>;

/// One model that was evaluated.
struct Variant {
  std::string name;    ///< key, unique
  std::string label;   ///< for people; made from name when the file has none
  std::string method;  ///< "dense", "vbp", "moee" or "fitted"; made from name when the file has none
  bool finetuned = false;
  Count images, skipped, top1_correct, top5_correct, parameters;
  Count gained, lost, agreeing;  ///< image by image against the dense model
  Number macs_per_image, images_per_second;

  bool has_experts() const { return method == "moee" || method == "fitted"; }
  Number top1() const;                 ///< share of images in 0..1
  Number top5() const;                 ///< share of images in 0..1
  Number top1_standard_error() const;  ///< sqrt(p (1 - p) / N), the binomial standard error of top1()
  /// Standard error of top1() minus the dense model's, from the images on which they differ: sqrt(b + c - (b - c)^2 /
  /// N) / N with b gained and c lost; nothing where these are unknown.
  Number paired_standard_error() const;
};

/// What a routed expert takes.
struct ExpertTokens {
  struct TellingClass {
    Count index, tokens;
    Number lift;  ///< share of this expert's tokens / share of all routed tokens
  };
  std::vector<std::int64_t> positions;  ///< tokens from each patch, row by row
  std::vector<TellingClass> classes;
};

struct Layer {
  Count layer, k, hidden, union_size, sum_sizes;
  std::string kind;
  std::vector<std::int64_t> sizes;  ///< |S_c|
  std::vector<Number> token_share;  ///< one an expert, in the order of sizes
  Number active_share;              ///< token-weighted share of the hidden neurons that is computed
  Number overlap;                   ///< mean over pairs of experts of shared neurons / neurons of either
  Number router_agreement, router_entropy, usage_entropy, class_information, position_information, modularity;
  std::vector<Number> output_error;        ///< one a routed expert, as a share of its output's variance
  bool prefix_expert = false;              ///< the last expert is the class token's own, to which nothing is routed
  Count grid = {};                         ///< patches a side of the image
  std::vector<ExpertTokens> experts = {};  ///< in the order of the routed experts

  /// "8", or "8+1" with one for the class token.
  std::string experts_text() const;
};

struct VbpLayer {
  Count layer, hidden, kept;
};

/// A cluster of HDBSCAN's condensed tree; birth and death are densities, 1 / distance.
struct TreeNode {
  Count id, parent, size, label;
  Number birth, death;
};

/// A number of clusters that was tried, and how the criterion judged it.
struct TriedClusters {
  Count k;
  Number score, error;
};

struct Clustering {
  Count layer, k, rows, iterations;
  std::string tap;
  Number inertia;
  std::optional<bool> converged;
  std::vector<std::int64_t> sizes;
  std::vector<Number> history;
  std::string method = {};
  Number silhouette = {}, davies_bouldin = {}, seed_agreement = {};
  std::string criterion = {};  ///< that chose k
  std::vector<TriedClusters> tried = {};
  Count clusters_found = {}, sampled_rows = {}, noise_rows = {}, held_back_rows = {};
  Number held_back_ari = {}, held_back_noise = {};
  std::vector<TreeNode> tree = {};

  bool is_hdbscan() const { return method == "hdbscan"; }
};

struct FinetuneCurve {
  std::string variant;
  std::vector<Number> step, loss, learning_rate;
  Number seconds;
};

struct StageTime {
  std::string stage;
  Number seconds;
  bool reused = false;
};

struct DataSet {
  std::string role;  ///< "calibration", "train", "validation"
  std::string summary;
  Count images, skipped;
};

using TextPairs = std::vector<std::pair<std::string, std::string>>;

struct Results {
  std::string title, program_version, created;
  struct {
    std::string name, folder, device;
    Count ranks, threads_per_rank;
    std::vector<std::string> hosts;
  } run;
  struct {
    std::string name;
    Count depth, width, hidden, tokens, classes, parameters;
    Number macs_per_image;
  } model;
  std::vector<DataSet> data;
  std::vector<Variant> variants;
  std::vector<Layer> layers;
  std::vector<VbpLayer> vbp_layers;
  std::vector<Clustering> clusters;
  std::vector<FinetuneCurve> finetune;
  std::vector<StageTime> time;
  TextPairs settings;  ///< nested keys joined by dots, values as JSON text
  TextPairs files;
  std::vector<std::string> notes;

  /// The variant with method "dense", or null.
  const Variant* dense() const;
};

/// Reads the JSON described above.
/// Throws UserError(ExitCode::input) when it is another format or a newer version, when a value has the wrong type (the
/// key path is named), and when counts contradict each other (more right answers than images).
Results parse_results(const nlohmann::json& json);

/// value / base, or nothing where either is unknown or base is not positive.
Number ratio(Number value, Number base);
Number as_number(Count count);

}  // namespace moextract
