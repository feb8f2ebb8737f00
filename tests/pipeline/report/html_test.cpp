// The page: well-formed, self-contained, escaped, and complete with whatever part is missing.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "core/error.h"
#include "example.h"
#include "html_checker.h"
#include "report/html_report.h"
#include "report/html_text.h"

namespace moextract {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(HtmlChecker, FindsFaults) {
  EXPECT_EQ(html_fault("<p class=\"a\">x &amp; y<br></p>"), "");
  EXPECT_EQ(html_fault("<svg><line x1=\"0\"/></svg>"), "");
  EXPECT_NE(html_fault("<p><b>x</p></b>"), "");
  EXPECT_NE(html_fault("<p>x"), "");
  EXPECT_NE(html_fault("a < b"), "");
  EXPECT_NE(html_fault("a & b"), "");
  EXPECT_NE(html_fault("<p class=a>x</p>"), "");
  EXPECT_NE(html_fault("<a href=\"http://x\">x</a>"), "");
}

TEST(Html, ExampleIsWellFormedAndSelfContained) {
  const std::string html = render_html(example_results());
  EXPECT_EQ(html_fault(html), "");
  EXPECT_EQ(html.rfind("<!DOCTYPE html>", 0), 0u);
  EXPECT_FALSE(contains(html, "http://"));
  EXPECT_FALSE(contains(html, "https://"));
  EXPECT_LT(html.size(), 200000u);
  EXPECT_TRUE(contains(html, "prefers-color-scheme:dark"));
}

TEST(Html, ShowsTheNumbersOfTheExample) {
  const std::string html = render_html(example_results());
  // Tiles: 1014 / 1044 kept; 805.12 of 1258 M MACs; 4990112 of 5563016 parameters; 241.2 against 212.4 images/s.
  EXPECT_TRUE(contains(html, "<dt>Top-1 accuracy kept</dt><dd>97.1 %</dd>"));
  EXPECT_TRUE(contains(html, "<dt>MACs per image</dt><dd>−36.0 %</dd>"));
  EXPECT_TRUE(contains(html, "<dt>Parameters</dt><dd>−10.3 %</dd>"));
  EXPECT_TRUE(contains(html, "<dt>Measured speed</dt><dd>1.14x</dd>"));
  EXPECT_TRUE(contains(html, "67.60<small>± 1.21</small>"));
  EXPECT_TRUE(contains(html, "0.805<small>64.0 %</small>"));
  EXPECT_TRUE(contains(html, "4.990<small>89.7 %</small>"));
  EXPECT_TRUE(contains(html, "by these counts alone the two cannot be told apart"));
  for (const char* part :
       {"Layers and experts", "VBP, the baseline", "Clustering", "Fine-tuning", "Where the time went",
        "All 17 settings of this run", "node-1, node-2", "stopped before convergence", "48.2 s, reused",
        "runs/example/experts-finetuned.safetensors"}) {
    EXPECT_TRUE(contains(html, part)) << part;
  }
}

TEST(Html, ShowsWhatTheExpertsKnow) {
  const std::string html = render_html(example_results());
  for (const char* text : {"What the experts know", "H_s (bits)", "71.3", "1.21", "2.87", "0.31", "0.44", "0.17", "5.0",
                           "25.0"})  // two experts of 4 and 6 share 2: 2 / (4 + 6 - 2)
    EXPECT_TRUE(contains(html, text)) << text;
  nlohmann::json without = example_results();
  without["layers"][1].erase("usage_entropy");
  without["layers"][1]["overlap"] = {{1, 2}, {3}};
  EXPECT_FALSE(contains(render_html(without), "What the experts know"));
}

TEST(Html, ShowsWhatEachExpertTakes) {
  nlohmann::json json = example_results();
  EXPECT_FALSE(contains(render_html(json), "What each expert takes"));
  json["layers"][3]["specialisation"] = {
      {"grid", 2},
      {"experts",
       {{{"positions", {1, 2, 3, 4}}, {"classes", {{{"class", 17}, {"tokens", 5}, {"lift", 3.25}}}}},
        {{"positions", {0, 0, 0, 0}}, {"classes", nlohmann::json::array()}}}}};
  const std::string html = render_html(json);
  EXPECT_EQ(html_fault(html), "");
  for (const char* text : {"What each expert takes", "<summary>Layer 3</summary>", "17 (3.", "class=\"map\""})
    EXPECT_TRUE(contains(html, text)) << text;
}

TEST(Html, EveryStringIsEscaped) {
  const std::string evil = "<script>alert('1')</script>&\"\x01";
  // Every text of the example becomes hostile, keys of settings and files too.
  const std::function<nlohmann::json(const nlohmann::json&, bool)> poison = [&](const nlohmann::json& json, bool keys) {
    if (json.is_string()) return nlohmann::json(evil + json.get<std::string>());
    if (json.is_array()) {
      nlohmann::json list = nlohmann::json::array();
      for (const auto& value : json) list.push_back(poison(value, keys));
      return list;
    }
    if (!json.is_object()) return json;
    nlohmann::json object = nlohmann::json::object();
    for (const auto& [key, value] : json.items()) object[keys ? evil + key : key] = poison(value, keys);
    return object;
  };
  nlohmann::json json = poison(example_results(), false);
  json["format"] = "moextract-results";
  json["settings"] = poison(example_results()["settings"], true);
  json["files"] = poison(example_results()["files"], true);
  const std::string html = render_html(json);
  EXPECT_EQ(html_fault(html), "");
  EXPECT_FALSE(contains(html, "<script>alert"));
  EXPECT_FALSE(contains(html, "\x01"));
  EXPECT_TRUE(contains(html, "&lt;script&gt;alert(&#39;1&#39;)"));
}

TEST(Html, EscapeCoversAttributesAndControlCharacters) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html(std::string("x\x1b\0y\n", 5)), "x\xef\xbf\xbd\xef\xbf\xbdy\n");
  EXPECT_EQ(escape_html("h\xc3\xa9"), "h\xc3\xa9");
}

TEST(Html, EachPartMayBeMissing) {
  const nlohmann::json example = example_results();
  for (const auto& [key, value] : example.items()) {
    if (key == "format" || key == "format_version") continue;
    nlohmann::json json = example;
    json.erase(key);
    EXPECT_EQ(html_fault(render_html(json)), "") << "without " << key;
    json[key] = nullptr;
    EXPECT_EQ(html_fault(render_html(json)), "") << key << " is null";
    if (value.is_array()) {
      json[key] = nlohmann::json::array();
      EXPECT_EQ(html_fault(render_html(json)), "") << key << " is empty";
      for (nlohmann::json& element : json[key] = value) {
        if (element.is_object())
          element = key == "variants" ? nlohmann::json{{"name", element["name"]}} : nlohmann::json::object();
      }
      const std::string html = render_html(json);
      EXPECT_EQ(html_fault(html), "") << key << " has bare elements";
      EXPECT_FALSE(contains(html, "nan\"") || contains(html, "inf\"") || contains(html, ">nan")) << key;
    }
  }
}

TEST(Html, NothingAtAllIsStillAPage) {
  const std::string html = render_html(empty_results());
  EXPECT_EQ(html_fault(html), "");
  EXPECT_TRUE(contains(html, "No variant was evaluated."));
  EXPECT_FALSE(contains(html, "<figure"));
}

TEST(Html, NanIsADash) {
  nlohmann::json json = example_results();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  json["variants"][4]["macs_per_image"] = nan;
  json["finetune"][0]["loss"][3] = nan;
  json["layers"][2]["token_share"][1] = nan;
  json["layers"][2]["active_share"] = nan;
  json["clusters"][1]["history"] = {nan, nan};
  const std::string html = render_html(json);
  EXPECT_EQ(html_fault(html), "");
  EXPECT_TRUE(contains(html, "Not shown, for a number is missing: Experts, fine-tuned."));
  EXPECT_TRUE(contains(html, "<dt>MACs per image</dt><dd>-</dd>"));
  EXPECT_FALSE(contains(html, "nan"));
}

TEST(Html, ClustersByHdbscanAndChosenKAreShown) {
  nlohmann::json json = example_results();
  json["clusters"] = {
      {{"layer", 0},
       {"tap", "x"},
       {"method", "hdbscan"},
       {"k", 2},
       {"rows", 1000},
       {"clusters_found", 2},
       {"sampled_rows", 400},
       {"noise_rows", 150},
       {"sizes", {600, 400}},
       {"held_back", {{"rows", 50}, {"ari", 0.9375}, {"same_noise", 0.96}}},
       {"tree",
        {{{"id", 0}, {"parent", nullptr}, {"birth", 0}, {"death", 1.5}, {"size", 400}, {"label", nullptr}},
         {{"id", 1}, {"parent", 0}, {"birth", 1.5}, {"death", 4.0}, {"size", 240}, {"label", 0}},
         {{"id", 2}, {"parent", 0}, {"birth", 1.5}, {"death", nullptr}, {"size", 100}, {"label", 1}}}}},
      {{"layer", 1},
       {"tap", "x"},
       {"method", "kmeans"},
       {"k", 3},
       {"rows", 1000},
       {"sizes", {1, 2, 3}},
       {"quality", {{"silhouette", 0.25}, {"davies_bouldin", 1.5}}},
       {"seed_agreement", {{"mean", 0.875}}},
       {"automatic_k", {{"criterion", "gap"}, {"tried", {{{"k", 2}, {"score", 0.1}}, {{"k", 3}, {"score", 0.2}}}}}}}};
  const std::string html = render_html(json);
  EXPECT_EQ(html_fault(html), "");
  for (const char* part :
       {"2 found in 400 sampled rows", "noise 15.0 % of all rows",
        "predicted as fitted: ARI 0.938 on 50 rows held back", "cluster 0: 240 rows, density 1.5 to 4",
        "cluster 1: 100 rows, density 1.5 to infinity", "not chosen: 400 rows", "condensed tree",
        "k by gap among 2 tried", "silhouette 0.250, Davies-Bouldin 1.50", "ARI between seeds 0.875",
        "The gap statistic of each number of clusters tried"}) {
    EXPECT_TRUE(contains(html, part)) << part;
  }
  json["clusters"][0]["tree"] = nlohmann::json::array();
  EXPECT_EQ(html_fault(render_html(json)), "");
}

TEST(Html, AllLayersDense) {
  nlohmann::json json = example_results();
  for (auto& layer : json["layers"]) {
    layer["kind"] = "dense";
    layer["sizes"] = layer["token_share"] = nlohmann::json::array();
  }
  const std::string html = render_html(json);
  EXPECT_EQ(html_fault(html), "");
  EXPECT_TRUE(contains(html, "<p>Every layer stayed dense.</p>"));
}

TEST(Html, AForeignFileIsAnError) {
  EXPECT_THROW(render_html({{"format", "x"}}), UserError);
}

}  // namespace
}  // namespace moextract
