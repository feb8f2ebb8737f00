// Reads the results JSON: absent stays absent, a wrong type or impossible count is an error that names its key.
#include "report/results.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/json_text.h"
#include "report/number_text.h"

namespace moextract {
namespace {

using Json = nlohmann::json;

[[noreturn]] void wrong_type(const std::string& path, const char* expected, const Json& found) {
  fail(ExitCode::input, "results file: '{}' must be {}, found {}; run `moextract report` again to rewrite the file",
       path, expected, found.type_name());
}

/// One object of the file together with its path, which every error names.
class Node {
 public:
  Node(const Json& json, std::string path) : json_(&json), path_(std::move(path)) {
    if (!json.is_object()) wrong_type(path_, "an object", json);
  }

  std::string path(const char* key) const { return path_.empty() ? key : path_ + "." + key; }

  const Json* find(const char* key) const {
    const auto found = json_->find(key);
    return found == json_->end() || found->is_null() ? nullptr : &*found;
  }

  std::string text(const char* key) const {
    const Json* value = find(key);
    if (!value) return {};
    if (!value->is_string()) wrong_type(path(key), "text", *value);
    return value->get<std::string>();
  }

  std::optional<bool> flag(const char* key) const {
    const Json* value = find(key);
    if (!value) return {};
    if (!value->is_boolean()) wrong_type(path(key), "true or false", *value);
    return value->get<bool>();
  }

  Number number(const char* key) const {
    const Json* value = find(key);
    return value ? to_number(*value, path(key)) : Number();
  }

  Count count(const char* key) const {
    const Json* value = find(key);
    return value ? to_count(*value, path(key)) : Count();
  }

  std::vector<Number> numbers(const char* key) const {
    std::vector<Number> result;
    for (const Json& value : list(key)) result.push_back(value.is_null() ? Number() : to_number(value, path(key)));
    return result;
  }

  std::vector<std::int64_t> counts(const char* key) const {
    std::vector<std::int64_t> result;
    for (const Json& value : list(key)) {
      const Count count = to_count(value, path(key));
      if (!count) wrong_type(path(key), "a list of counts", value);
      result.push_back(*count);
    }
    return result;
  }

  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> result;
    for (const Json& value : list(key)) {
      if (!value.is_string()) wrong_type(path(key), "a list of text", value);
      result.push_back(value.get<std::string>());
    }
    return result;
  }

  std::vector<Node> nodes(const char* key) const {
    std::vector<Node> result;
    for (const Json& value : list(key))
      result.emplace_back(value, path(key) + "[" + std::to_string(result.size()) + "]");
    return result;
  }

  Node node(const char* key) const {
    static const Json kEmpty = Json::object();
    const Json* value = find(key);
    return {value ? *value : kEmpty, path(key)};
  }

  const Json& json() const { return *json_; }

 private:
  const Json& list(const char* key) const {
    static const Json kEmpty = Json::array();
    const Json* value = find(key);
    if (!value) return kEmpty;
    if (!value->is_array()) wrong_type(path(key), "a list", *value);
    return *value;
  }

  static Number to_number(const Json& value, const std::string& path) {
    if (!value.is_number()) wrong_type(path, "a number", value);
    const double number = value.get<double>();
    return std::isfinite(number) ? Number(number) : Number();
  }

  static Count to_count(const Json& value, const std::string& path) {
    const Number number = to_number(value, path);
    if (!number) return {};
    if (*number < 0 || *number > 9.0e18 || std::floor(*number) != *number) {
      fail(ExitCode::input, "results file: '{}' must be a count, found {}", path, value.dump());
    }
    // Not through the double: counts above 2^53 stay exact.
    return value.is_number_float() ? static_cast<std::int64_t>(*number) : value.get<std::int64_t>();
  }

  const Json* json_;
  std::string path_;
};

bool is_true(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && *found == Json(true);
}

/// Of a layer's "overlap", [k][k] with the experts' sizes on the diagonal, over pairs of routed experts; nothing if it
/// is absent or of another form.
Number mean_overlap(const Json& layer) {
  const auto overlap = layer.find("overlap");
  if (overlap == layer.end() || !overlap->is_array() || overlap->size() < 2) return {};
  const std::size_t k = overlap->size();
  const auto at = [&](std::size_t a, std::size_t b) -> Number {
    const Json& row = (*overlap)[a];
    if (!row.is_array() || row.size() != k || !row[b].is_number()) return {};
    return row[b].get<double>();
  };
  const std::size_t routed = is_true(layer, "prefix_expert") ? k - 1 : k;
  if (routed < 2) return {};
  double sum = 0;
  for (std::size_t a = 0; a < routed; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      const Number both = at(a, b), first = at(a, a), second = at(b, b);
      if (!both || !first || !second) return {};
      const double either = *first + *second - *both;
      sum += either > 0 ? *both / either : 0.0;
    }
  }
  return sum / (0.5 * static_cast<double>(routed * (routed - 1)));
}

/// What the experts of a layer take.
void parse_specialisation(const Node& node, Layer& layer) {
  layer.grid = node.count("grid");
  for (const Node& expert : node.nodes("experts")) {
    ExpertTokens tokens{expert.counts("positions"), {}};
    if (const auto cells = static_cast<std::int64_t>(tokens.positions.size());
        !layer.grid || *layer.grid > 4096 || cells != *layer.grid * *layer.grid) {
      fail(ExitCode::input, "results file: '{}' holds {} positions for a grid of {} patches a side",
           expert.path("positions"), cells, count_text(layer.grid));
    }
    for (const Node& told : expert.nodes("classes"))
      tokens.classes.push_back({told.count("class"), told.count("tokens"), told.number("lift")});
    layer.experts.push_back(std::move(tokens));
  }
}

std::string default_label(const std::string& name) {
  if (name == "dense") return "Dense";
  if (name == "vbp") return "VBP";
  if (name == "vbp-finetuned") return "VBP, fine-tuned";
  if (name == "experts") return "Experts";
  if (name == "experts-finetuned") return "Experts, fine-tuned";
  return name;
}

std::string default_method(const std::string& name) {
  if (name.rfind("dense", 0) == 0) return "dense";
  if (name.rfind("vbp", 0) == 0) return "vbp";
  if (name.rfind("experts", 0) == 0) return "moee";
  return {};
}

Variant parse_variant(const Node& node) {
  Variant variant;
  variant.name = node.text("name");
  if (variant.name.empty()) fail(ExitCode::input, "results file: '{}' is missing", node.path("name"));
  variant.label = node.text("label");
  if (variant.label.empty()) variant.label = default_label(variant.name);
  variant.method = node.text("method");
  if (variant.method.empty()) variant.method = default_method(variant.name);
  variant.finetuned = node.flag("finetuned").value_or(variant.name.ends_with("-finetuned"));
  variant.images = node.count("images");
  variant.skipped = node.count("skipped");
  variant.top1_correct = node.count("top1_correct");
  variant.top5_correct = node.count("top5_correct");
  variant.macs_per_image = node.number("macs_per_image");
  variant.parameters = node.count("parameters");
  variant.images_per_second = node.number("images_per_second");
  const Node versus = node.node("versus_dense");
  variant.gained = versus.count("gained");
  variant.lost = versus.count("lost");
  variant.agreeing = versus.count("agreeing");
  // A page that says 104 % correct would be believed by nobody; better no page than that one.
  const auto contradicts = [](Count part, Count whole) { return part && whole && *part > *whole; };
  if (contradicts(variant.top1_correct, variant.images) || contradicts(variant.top5_correct, variant.images) ||
      contradicts(variant.top1_correct, variant.top5_correct) || contradicts(variant.gained, variant.top1_correct) ||
      contradicts(variant.lost, variant.images) || contradicts(variant.agreeing, variant.images)) {
    fail(ExitCode::input,
         "results file: the counts of variant '{}' contradict each other (top-1 <= top-5 <= images, as many gained at "
         "most as right); "
         "evaluate it again",
         variant.name);
  }
  return variant;
}

Clustering parse_clustering(const Node& node) {
  Clustering c{node.count("layer"),      node.count("k"),      node.count("rows"),
               node.count("iterations"), node.text("tap"),     node.number("inertia"),
               node.flag("converged"),   node.counts("sizes"), node.numbers("history")};
  c.method = node.text("method");
  c.silhouette = node.node("quality").number("silhouette");
  c.davies_bouldin = node.node("quality").number("davies_bouldin");
  c.seed_agreement = node.node("seed_agreement").number("mean");
  const Node automatic = node.node("automatic_k");
  c.criterion = automatic.text("criterion");
  for (const Node& tried : automatic.nodes("tried"))
    c.tried.push_back({tried.count("k"), tried.number("score"), tried.number("error")});
  c.clusters_found = node.count("clusters_found");
  c.sampled_rows = node.count("sampled_rows");
  c.noise_rows = node.count("noise_rows");
  c.held_back_rows = node.node("held_back").count("rows");
  c.held_back_ari = node.node("held_back").number("ari");
  c.held_back_noise = node.node("held_back").number("same_noise");
  for (const Node& one : node.nodes("tree")) {
    c.tree.push_back({one.count("id"), one.count("parent"), one.count("size"), one.count("label"), one.number("birth"),
                      one.number("death")});
  }
  return c;
}

void flatten(const Json& json, const std::string& path, TextPairs& pairs) {
  if (json.is_object() && !json.empty()) {
    for (const auto& [key, value] : json.items()) flatten(value, path.empty() ? key : path + "." + key, pairs);
    return;
  }
  pairs.emplace_back(path, json.is_string() ? json.get<std::string>() : json_text(json));
}

}  // namespace

Number ratio(Number value, Number base) {
  if (!value || !base || !(*base > 0)) return {};
  return *value / *base;
}

Number as_number(Count count) {
  return count ? Number(static_cast<double>(*count)) : Number();
}

std::string Layer::experts_text() const {
  return prefix_expert && k ? count_text(*k - 1) + "+1" : count_text(k);
}

Number Variant::top1() const {
  return ratio(as_number(top1_correct), as_number(images));
}

Number Variant::top5() const {
  return ratio(as_number(top5_correct), as_number(images));
}

Number Variant::top1_standard_error() const {
  const Number p = top1();
  if (!p) return {};
  return std::sqrt(*p * (1 - *p) / static_cast<double>(*images));
}

Number Variant::paired_standard_error() const {
  if (!gained || !lost || !images || *images <= 0) return {};
  const double n = static_cast<double>(*images), b = static_cast<double>(*gained), c = static_cast<double>(*lost);
  return std::sqrt(b + c - (b - c) * (b - c) / n) / n;
}

const Variant* Results::dense() const {
  for (const Variant& variant : variants) {
    if (variant.method == "dense") return &variant;
  }
  return nullptr;
}

Results parse_results(const Json& json) {
  const Node root(json, "");
  const std::string format = root.text("format");
  if (format != kResultsFormat) {
    fail(ExitCode::input, "not a results file: 'format' is '{}', expected '{}'; give the results.json of a run", format,
         kResultsFormat);
  }
  const Count version = root.count("format_version");
  if (version != kResultsFormatVersion) {
    fail(ExitCode::input,
         "results file: format_version is {}, this program reads {}; run `moextract report` with the "
         "program that evaluated, or evaluate again with this one",
         version ? std::to_string(*version) : "missing", kResultsFormatVersion);
  }

  Results results;
  results.title = root.text("title");
  results.program_version = root.text("program_version");
  results.created = root.text("created");

  const Node run = root.node("run");
  results.run.name = run.text("name");
  results.run.folder = run.text("folder");
  results.run.device = run.text("device");
  results.run.ranks = run.count("ranks");
  results.run.threads_per_rank = run.count("threads_per_rank");
  results.run.hosts = run.texts("hosts");

  const Node model = root.node("model");
  results.model.name = model.text("name");
  results.model.depth = model.count("depth");
  results.model.width = model.count("width");
  results.model.hidden = model.count("hidden");
  results.model.tokens = model.count("tokens");
  results.model.classes = model.count("classes");
  results.model.parameters = model.count("parameters");
  results.model.macs_per_image = model.number("macs_per_image");

  const Node data = root.node("data");
  for (const char* role : {"calibration", "train", "validation"}) {
    if (!data.find(role)) continue;
    const Node set = data.node(role);
    results.data.push_back({role, set.text("summary"), set.count("images"), set.count("skipped")});
  }

  std::set<std::string> names;
  for (const Node& node : root.nodes("variants")) {
    results.variants.push_back(parse_variant(node));
    if (!names.insert(results.variants.back().name).second) {
      fail(ExitCode::input, "results file: two variants are named '{}'", results.variants.back().name);
    }
  }

  for (const Node& node : root.nodes("layers")) {
    results.layers.push_back(
        {node.count("layer"), node.count("k"), node.count("hidden"), node.count("union"), node.count("sum_sizes"),
         node.text("kind"), node.counts("sizes"), node.numbers("token_share"), node.number("active_share"),
         mean_overlap(node.json()), node.number("router_agreement"), node.number("router_entropy"),
         node.number("usage_entropy"), node.number("class_information"), node.number("position_information"),
         node.number("modularity"), node.numbers("output_error"), is_true(node.json(), "prefix_expert")});
    parse_specialisation(node.node("specialisation"), results.layers.back());
  }
  for (const Node& node : root.nodes("vbp_layers")) {
    results.vbp_layers.push_back({node.count("layer"), node.count("hidden"), node.count("kept")});
  }
  for (const Node& node : root.nodes("clusters")) results.clusters.push_back(parse_clustering(node));
  for (const Node& node : root.nodes("finetune")) {
    results.finetune.push_back({node.text("variant"), node.numbers("step"), node.numbers("loss"),
                                node.numbers("learning_rate"), node.number("seconds")});
  }
  for (const Node& node : root.nodes("time")) {
    results.time.push_back({node.text("stage"), node.number("seconds"), node.flag("reused").value_or(false)});
  }
  if (const Json* settings = root.find("settings"); settings && !settings->empty()) {
    flatten(root.node("settings").json(), "", results.settings);
  }
  if (const Json* files = root.find("files"); files && !files->empty()) {
    flatten(root.node("files").json(), "", results.files);
  }
  results.notes = root.texts("notes");
  return results;
}

}  // namespace moextract
