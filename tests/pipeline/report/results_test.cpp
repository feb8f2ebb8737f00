// Reading the results JSON, the numbers as text, and the headline.
#include "report/results.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "example.h"
#include "report/headline.h"
#include "report/number_text.h"

namespace moextract {
namespace {

/// The message of the UserError that reading gives, or what went wrong instead.
std::string error_of(const nlohmann::json& json) {
  try {
    parse_results(json);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::input);
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Results, ReadsTheExample) {
  const Results results = parse_results(example_results());
  ASSERT_EQ(results.variants.size(), 5u);
  const Variant& dense = *results.dense();
  EXPECT_EQ(dense.label, "Dense");
  EXPECT_NEAR(*dense.top1(), 0.696, 1e-12);
  EXPECT_NEAR(*dense.top1_standard_error(), std::sqrt(0.696 * 0.304 / 1500), 1e-12);
  EXPECT_EQ(results.layers.size(), 12u);
  EXPECT_EQ(results.layers[3].sizes.size(), 16u);
  EXPECT_EQ(results.clusters[5].converged, false);
  EXPECT_TRUE(results.time[0].reused);
  EXPECT_EQ(results.data[1].skipped, 3);
  ASSERT_FALSE(results.settings.empty());
  const auto has = [&](const std::string& key, const std::string& value) {
    return std::find(results.settings.begin(), results.settings.end(), std::pair(key, value)) != results.settings.end();
  };
  EXPECT_TRUE(has("assemble.target_macs", "0.64"));
  EXPECT_TRUE(has("layers", "[1,2,3]"));
}

TEST(Results, AbsentNullAndNanAreUnknown) {
  nlohmann::json json = empty_results();
  json["variants"] = {{{"name", "experts-finetuned"},
                       {"macs_per_image", std::numeric_limits<double>::quiet_NaN()},
                       {"images", nullptr},
                       {"images_per_second", std::numeric_limits<double>::infinity()}}};
  const Results results = parse_results(json);
  const Variant& variant = results.variants.at(0);
  EXPECT_FALSE(variant.macs_per_image);
  EXPECT_FALSE(variant.images_per_second);
  EXPECT_FALSE(variant.images);
  EXPECT_FALSE(variant.top1());
  EXPECT_FALSE(variant.top1_standard_error());
  // What the name says stands in for what is missing.
  EXPECT_EQ(variant.label, "Experts, fine-tuned");
  EXPECT_EQ(variant.method, "moee");
  EXPECT_TRUE(variant.finetuned);
}

TEST(Results, NoImagesGiveNoAccuracy) {
  nlohmann::json json = empty_results();
  json["variants"] = {{{"name", "dense"}, {"images", 0}, {"top1_correct", 0}}};
  EXPECT_FALSE(parse_results(json).variants[0].top1());
}

TEST(Results, LargeCountsStayExact) {
  nlohmann::json json = empty_results();
  json["variants"] = {{{"name", "dense"}, {"parameters", 9007199254740993}}};
  EXPECT_EQ(parse_results(json).variants[0].parameters, 9007199254740993);
}

TEST(Results, ErrorsNameWhatIsWrong) {
  EXPECT_TRUE(contains(error_of({{"format", "something"}}), "'something'"));
  EXPECT_TRUE(contains(error_of(nlohmann::json::array()), "must be an object"));
  EXPECT_TRUE(contains(error_of({{"format", "moextract-results"}}), "format_version is missing"));
  nlohmann::json json = example_results();
  json["format_version"] = 2;
  EXPECT_TRUE(contains(error_of(json), "format_version is 2, this program reads 1"));
  json = example_results();
  json["variants"][1]["images"] = "many";
  EXPECT_TRUE(contains(error_of(json), "'variants[1].images' must be a number, found string"));
  json = example_results();
  json["layers"][2]["sizes"][1] = 1.5;
  EXPECT_TRUE(contains(error_of(json), "'layers[2].sizes' must be a count, found 1.5"));
  json = example_results();
  json["variants"][0]["parameters"] = -1;
  EXPECT_TRUE(contains(error_of(json), "'variants[0].parameters' must be a count"));
  json = example_results();
  json["time"] = nlohmann::json::object();
  EXPECT_TRUE(contains(error_of(json), "'time' must be a list"));
  json = example_results();
  json["variants"][0].erase("name");
  EXPECT_TRUE(contains(error_of(json), "'variants[0].name' is missing"));
  json = example_results();
  json["variants"][1]["name"] = "dense";
  EXPECT_TRUE(contains(error_of(json), "two variants are named 'dense'"));
}

TEST(Results, PositionsFillTheirGrid) {
  nlohmann::json json = empty_results();
  json["layers"] = {{{"specialisation", {{"grid", 2}, {"experts", {{{"positions", {1, 2, 3}}}}}}}}};
  const std::string message = error_of(json);
  EXPECT_TRUE(contains(message, "layers[0].specialisation.experts[0].positions")) << message;
  json["layers"][0]["specialisation"]["experts"][0]["positions"].push_back(4);
  const Results results = parse_results(json);
  ASSERT_EQ(results.layers[0].experts.size(), 1u);
  EXPECT_EQ(results.layers[0].experts[0].positions, (std::vector<std::int64_t>{1, 2, 3, 4}));
}

TEST(Results, ImpossibleCountsAreRefused) {
  nlohmann::json json = example_results();
  json["variants"][0]["top1_correct"] = 1501;
  EXPECT_TRUE(contains(error_of(json), "variant 'dense' contradict"));
  json = example_results();
  json["variants"][3]["top5_correct"] = 10;
  EXPECT_TRUE(contains(error_of(json), "variant 'experts' contradict"));
}

TEST(NumberText, ReadsAsPeopleWrite) {
  EXPECT_EQ(count_text({}), "-");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(-123456), "-123,456");
  EXPECT_EQ(percent_text(0.97142), "97.1 %");
  EXPECT_EQ(percent_text(-0.0001), "0.0 %");
  EXPECT_EQ(percent_text({}), "-");
  EXPECT_EQ(times_text(1.2149), "1.21x");
  EXPECT_EQ(fixed_text(std::numeric_limits<double>::quiet_NaN(), 1), "-");
  EXPECT_EQ(duration_text(0.5), "0.50 s");
  EXPECT_EQ(duration_text(12.34), "12.3 s");
  EXPECT_EQ(duration_text(59.96), "1 min 00 s");
  EXPECT_EQ(duration_text(252), "4 min 12 s");
  EXPECT_EQ(duration_text(3599.7), "1 h 00 min");
  EXPECT_EQ(duration_text(3780), "1 h 03 min");
  EXPECT_EQ(rate_text(212.41), "212.4");
  EXPECT_EQ(rate_text(8123.4), "8,123");
  EXPECT_EQ(rate_text({}), "-");
  EXPECT_EQ(short_text(0.0), "0");
  EXPECT_EQ(short_text(12345678.0), "1.23e+07");
}

TEST(NumberText, OneUnitServesAColumn) {
  const std::vector<Number> macs{17.58e9, 11.44e9, {}, 0.5e9};
  const Unit unit = unit_for(macs);
  EXPECT_EQ(unit.prefix, "G");
  EXPECT_EQ(unit.text(macs[0]), "17.58");
  EXPECT_EQ(unit.text(macs[3]), "0.50");
  EXPECT_EQ(unit.text(macs[2]), "-");
  EXPECT_EQ(unit_for(Number(86567656.0)).with_prefix(86567656.0), "86.57 M");
  EXPECT_EQ(unit_for(Number(640.0)).with_prefix(640.0), "640");
  EXPECT_EQ(unit_for(Number()).text({}), "-");
}

TEST(Headline, SaysWhatWasKeptAndSaved) {
  const Results results = parse_results(example_results());
  const Headline headline = make_headline(results);
  ASSERT_TRUE(headline.subject);
  EXPECT_EQ(headline.subject->name, "experts-finetuned");
  // 1014 / 1044 = 97.1 %, 805.12 / 1258 = 64.0 %, 4990112 / 5563016 = 89.7 %, 241.2 / 212.4 = 1.136.
  EXPECT_EQ(
      headline.sentence,
      "Cut into experts and fine-tuned, the model keeps 97.1 % of its top-1 accuracy (67.6 % instead of 69.6 %) "
      "with 36.0 % fewer MACs per image and 10.3 % fewer parameters, and classifies 1.14 times as many images per "
      "second.");
  ASSERT_EQ(headline.details.size(), 2u);
  EXPECT_TRUE(contains(headline.details[0], "-2.0 points, standard error 1.7 points (unpaired, 1,500 images)"));
  EXPECT_TRUE(contains(headline.details[0], "cannot be told apart"));
  EXPECT_TRUE(contains(headline.details[1], "VBP, fine-tuned too, keeps 94.9 % with 35.7 % fewer MACs per image"));
}

TEST(Headline, ComparesImageByImageWhereTheAnswersWereKept) {
  nlohmann::json json = example_results();
  json["variants"][4]["versus_dense"] = {{"gained", 30}, {"lost", 60}, {"agreeing", 1275}};
  const Headline headline = make_headline(parse_results(json));
  // sqrt(90 - 30^2 / 1500) / 1500 = 0.63 points, a third of what the two counts alone allow to say.
  EXPECT_TRUE(contains(headline.details[0], "-2.0 points, standard error 0.6 points (paired, 1,500 images)."));
  EXPECT_TRUE(contains(headline.details[1], "same class for 85.0 % of the images; 60 images are right with the dense"));
  json["variants"][4]["versus_dense"]["agreeing"] = 1501;
  EXPECT_THROW(parse_results(json), UserError);
}

TEST(Headline, CallsALossALoss) {
  nlohmann::json json = example_results();
  json["variants"][4]["top1_correct"] = 700;
  json["variants"][4]["images_per_second"] = 150.0;
  json["variants"][4]["parameters"] = 6000000;
  const Headline headline = make_headline(parse_results(json));
  EXPECT_TRUE(contains(headline.sentence, "7.9 % more parameters"));
  EXPECT_TRUE(contains(headline.sentence, "0.71 times as many images per second: it is slower than the dense model"));
  EXPECT_FALSE(contains(headline.details[0], "told apart"));
  EXPECT_TRUE(contains(headline.details[1], "more than the experts do"));
}

TEST(Headline, ComparesOnlyWhatIsThere) {
  nlohmann::json json = example_results();
  json["variants"].erase(0);
  EXPECT_TRUE(contains(make_headline(parse_results(json)).sentence, "the dense model was not evaluated"));
  json = example_results();
  json["variants"] = {json["variants"][0]};
  EXPECT_EQ(make_headline(parse_results(json)).sentence,
            "The dense model classifies 69.6 % of 1,500 images correctly; no reduced variant was evaluated.");
  json["variants"] = nlohmann::json::array();
  EXPECT_EQ(make_headline(parse_results(json)).sentence, "No variant was evaluated.");
  json = example_results();
  json["variants"][4]["images"] = 1400;
  EXPECT_TRUE(contains(make_headline(parse_results(json)).details[0], "different numbers of images (1,400 and 1,500)"));
}

TEST(Headline, SaysWhenEveryLayerStayedDense) {
  nlohmann::json json = example_results();
  for (auto& layer : json["layers"]) layer["kind"] = "dense";
  json["variants"][4] = json["variants"][0];
  json["variants"][4]["name"] = "experts-finetuned";
  json["variants"][4]["method"] = "moee";
  json["variants"][4]["finetuned"] = true;
  const Results results = parse_results(json);
  const Headline headline = make_headline(results);
  EXPECT_TRUE(contains(headline.sentence, "the same number of MACs per image and the same number of parameters"));
  EXPECT_TRUE(contains(headline.sentence, "as many images per second as the dense model"));
  EXPECT_TRUE(contains(headline.details.back(), "Every layer stayed dense"));
}

}  // namespace
}  // namespace moextract
