#include "stages/report/report.h"

#include <fmt/chrono.h>
#include <algorithm>
#include <chrono>

#include "config/render.h"
#include "core/error.h"
#include "core/file.h"
#include "report/html_report.h"
#include "report/text_table.h"
#include "stages/assemble/assemble.h"
#include "stages/cluster/cluster.h"
#include "stages/evaluate/evaluate.h"
#include "stages/evaluate/routing_counts.h"
#include "stages/train/train.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

json read_json(const fs::path& path) {
  json value = json::parse(read_text_file(path), nullptr, false);
  if (value.is_discarded()) fail(ExitCode::input, "{}: is damaged: run its stage again", path.string());
  return value;
}

class ResultsBuilder {
 public:
  ResultsBuilder(const Pipeline& pipeline, const ReportFacts& facts, const fs::path& folder)
      : pipeline_(pipeline), graph_(pipeline.graph()), facts_(facts), folder_(folder) {}

  json build() const {
    const model::ModelDescription& description = pipeline_.description();
    const RunConfig& config = pipeline_.config();
    const model::VitParams& vit = description.vit;
    json results{
        {"format", "moextract-results"},
        {"format_version", 1},
        {"title", config.report_title.empty() ? config.run.name : config.report_title},
        {"program_version", facts_.program_version},
        {"created", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                                fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())))},
        {"run",
         {{"name", config.run.name},
          {"folder", folder_.string()},
          {"ranks", facts_.ranks},
          {"threads_per_rank", facts_.threads_per_rank},
          {"hosts", facts_.hosts},
          {"device", name_of(pipeline_.device())}}},
        {"model",
         {{"name", description.name},
          {"depth", vit.depth},
          {"width", vit.width},
          {"hidden", vit.hidden},
          {"tokens", vit.tokens()},
          {"classes", vit.classes}}},
        {"variants", variants()},
        {"clusters", clusters()},
        {"finetune", training()},
        {"time", times()},
        {"notes", notes()}};
    for (const char* name : {"calibration", "train", "validation"}) {
      if (const data::ImageSet* set = pipeline_.images(name)) {
        results["data"][name] = {{"summary", set->summary()}, {"images", set->size()}};
      }
    }
    if (!results["variants"].empty() && results["variants"][0]["name"] == "dense") {
      results["model"]["parameters"] = results["variants"][0]["parameters"];
      results["model"]["macs_per_image"] = results["variants"][0]["macs_per_image"];
    }
    add_layers(results);
    RunConfig copy = config;
    results["settings"] = config::to_json(field_list(copy), /*only_results=*/false);
    for (const run::StageNode& node : graph_.nodes()) {
      if (done(node.id)) results["files"][node.id] = graph_.folder(node.id).string();
    }
    return results;
  }

 private:
  bool done(const std::string& id) const {
    for (const run::StageNode& node : graph_.nodes()) {
      if (node.id == id) return graph_.state(id) == run::ArtefactState::done;
    }
    return false;
  }

  json variants() const {
    json list = json::array();
    for (const VariantNode& variant : pipeline_.variants()) {
      if (!done(variant.evaluation)) continue;
      const fs::path folder = graph_.folder(variant.evaluation);
      json entry = read_json(folder / kEvaluationFile);
      entry.erase("layers");
      entry["images_per_second"] = read_json(folder / kTimingFile)["images_per_second"];
      entry["name"] = variant.name;
      entry["method"] = variant.method;
      entry["finetuned"] = variant.finetuned;
      entry["label"] = label(variant);
      if (variant.method != "dense" && done("evaluate/dense")) {
        const AnswerChanges changes = compare_answers(graph_.folder("evaluate/dense"), folder);
        entry["versus_dense"] = {{"gained", changes.gained}, {"lost", changes.lost}, {"agreeing", changes.agreeing}};
      }
      list.push_back(std::move(entry));
    }
    return list;
  }

  std::string label(const VariantNode& variant) const {
    std::string tuned = variant.finetuned ? ", fine-tuned" : "";
    if (variant.routing == moe::Routing::random) tuned = ", random routing";
    if (variant.routing == moe::Routing::oracle) tuned = ", oracle routing";
    if (variant.routing == moe::Routing::best) tuned = ", best expert each token";
    if (variant.method == "dense") return "Dense";
    if (variant.method == "vbp") return "VBP" + tuned;
    return fmt::format("{}, {}{}", variant.method == "fitted" ? "Fitted experts" : "Experts", experts_text(), tuned);
  }

  /// "k = 8", or what chose the number of experts.
  std::string experts_text() const {
    const ClusterParams& params = pipeline_.config().cluster;
    const bool given = params.method == ClusterMethod::kmeans && params.automatic_k == AutomaticK::none;
    if (given || !done("cluster")) return given ? fmt::format("k = {}", params.kmeans.k) : method_text(params);
    std::int64_t least = 0, most = 0;
    for (std::int64_t layer = 0; layer < pipeline_.description().vit.depth; ++layer) {
      const std::int64_t k = load_layer_clusters(graph_.folder("cluster"), layer).k;
      least = layer == 0 ? k : std::min(least, k);
      most = std::max(most, k);
    }
    return fmt::format("{}, k = {} to {}", params.method == ClusterMethod::hdbscan ? "HDBSCAN" : "automatic", least,
                       most);
  }

  /// Shapes from assembly.json; token shares as measured on the validation images where there are any.
  void add_layers(json& results) const {
    if (done("assemble/experts")) {
      json layers = read_json(graph_.folder("assemble/experts") / kAssemblyFile)["layers"];
      const bool evaluated = !pipeline_.variants().empty() && done("evaluate/experts");
      const json measured =
          evaluated ? read_json(graph_.folder("evaluate/experts") / kEvaluationFile)["layers"] : json();
      std::vector<bool> prefix_apart;
      for (const json& layer : layers) prefix_apart.push_back(layer.value("prefix_expert", false));
      std::vector<RoutingCounts> routing;
      if (evaluated) routing = load_routing(graph_.folder("evaluate/experts") / kRoutingFile, prefix_apart);
      for (std::size_t l = 0; l < layers.size(); ++l) {
        if (!evaluated) continue;
        layers[l]["token_share"] = measured[l]["token_share"];
        for (const char* name : {"usage_entropy", "router_entropy", "class_information", "position_information"}) {
          if (measured[l].contains(name)) layers[l][name] = measured[l][name];
        }
        if (json takes = specialisation(routing[l], pipeline_.description().vit); !takes.is_null())
          layers[l]["specialisation"] = std::move(takes);
        layers[l]["active_share"] = measured[l]["active_neurons"].get<double>() / layers[l]["hidden"].get<double>();
      }
      results["layers"] = std::move(layers);
    }
    if (done("assemble/vbp"))
      results["vbp_layers"] = read_json(graph_.folder("assemble/vbp") / kAssemblyFile)["layers"];
  }

  json clusters() const {
    json list = json::array();
    if (!done("cluster")) return list;
    for (std::int64_t layer = 0; layer < pipeline_.description().vit.depth; ++layer) {
      list.push_back(load_layer_clusters(graph_.folder("cluster"), layer).summary);
    }
    return list;
  }

  json training() const {
    json list = json::array();
    for (const std::string id : {"train", "finetune/vbp", "finetune/experts"}) {
      if (!done(id)) continue;
      json entry = read_json(graph_.folder(id) / kTrainingFile);
      entry["variant"] = id == "train" ? "dense" : id.substr(id.find('/') + 1);
      entry["seconds"] = graph_.manifest(id).value("seconds", 0.0);
      list.push_back(std::move(entry));
    }
    return list;
  }

  json times() const {
    json list = json::array();
    for (const run::StageOutcome& outcome : facts_.outcomes) {
      list.push_back({{"stage", outcome.id}, {"seconds", outcome.seconds}, {"reused", outcome.reused}});
    }
    return list;
  }

  json notes() const {
    json list{
        "MACs count the products of the network, router included; bias, GELU, norms and softmax are not counted. For "
        "experts they "
        "are the mean over the validation tokens as they were routed.",
        "Images a second are measured during evaluation, forward passes only, with the ranks and threads given; they "
        "are no "
        "substitute for a benchmark.",
        "Routing keys are not changed by fine-tuning."};
    if (done("assemble/experts")) {
      const json layers = read_json(graph_.folder("assemble/experts") / kAssemblyFile)["layers"];
      double agreement = 0;
      std::int64_t routed = 0;
      for (const json& layer : layers) {
        if (!layer.contains("router_agreement")) continue;
        agreement += layer["router_agreement"].get<double>();
        ++routed;
      }
      if (routed > 0) {
        list.push_back(
            fmt::format("The router sends {:.1f} % of the recorded calibration tokens to the expert of their own "
                        "cluster (mean over "
                        "layers).",
                        100.0 * agreement / static_cast<double>(routed)));
      }
      const auto dense =
          std::count_if(layers.begin(), layers.end(), [](const json& layer) { return layer.at("kind") == "dense"; });
      const auto costly = std::count_if(layers.begin(), layers.end(), [](const json& layer) {
        return layer.at("kind") == "dense" && layer.contains("why");
      });
      if (dense > costly) {
        list.push_back(fmt::format(
            "{} of {} layers stay dense: they have fewer than two clusters, or their MLP sees the class token alone.",
            dense - costly, layers.size()));
      }
      if (costly > 0) {
        list.push_back(
            fmt::format("{} of {} layers stay dense, for experts would cost no less there.", costly, layers.size()));
      }
    }
    return list;
  }

  const Pipeline& pipeline_;
  const run::StageGraph& graph_;
  const ReportFacts& facts_;
  const fs::path& folder_;
};

}  // namespace

std::string write_report(const Pipeline& pipeline, const ReportFacts& facts, const fs::path& folder) {
  const json results = ResultsBuilder(pipeline, facts, folder).build();
  make_folder(folder);
  write_file_atomically(folder / "results.json", results.dump(2) + "\n");
  write_file_atomically(folder / "report.html", render_html(results));
  return render_table(results);
}

}  // namespace moextract::stages
