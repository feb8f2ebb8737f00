// The model description in a file's metadata: round trips, and damage that names the member.
#include "model/description.h"

#include <nlohmann/json.hpp>

#include "moe/model_file.h"
#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

using nlohmann::json;

ModelDescription unusual() {
  ModelDescription d = tiny_description();
  d.name = "a \"name\" with é";
  d.vit.qkv_bias = false;
  d.vit.distilled = true;
  d.vit.norm_eps = 1.25e-5;
  d.preprocess.resize = 11;
  d.preprocess.resize_mode = data::ResizeMode::squash;
  d.preprocess.interpolation = data::Interpolation::bilinear;
  d.preprocess.mean = {0.1, 0.2, 1.0 / 3};
  d.preprocess.std = {0.4, 0.5, 0.6};
  return d;
}

TEST(Description, EveryMemberComesBack) {
  const ModelDescription d = unusual();
  const ModelDescription back = description_from_json(json::parse(to_json(d).dump()), "file");
  EXPECT_EQ(to_json(back), to_json(d));
  EXPECT_EQ(back.name, d.name);
  EXPECT_EQ(back.vit.norm_eps, 1.25e-5);
  EXPECT_TRUE(back.vit.distilled);
  EXPECT_FALSE(back.vit.qkv_bias);
  EXPECT_EQ(back.preprocess.mean, d.preprocess.mean);
  EXPECT_EQ(back.preprocess.resize_mode, data::ResizeMode::squash);
  EXPECT_EQ(back.preprocess.interpolation, data::Interpolation::bilinear);
  EXPECT_EQ(back.preprocess.crop, 8);
}

TEST(Description, ComesBackFromAModelFile) {
  const TemporaryFolder folder;
  const ModelDescription d = unusual();
  const TensorMap tensors = random_vit_tensors(d.vit);
  moe::save_model(folder / "model", d, tensors, {{"note", "kept"}});
  const moe::LoadedModel loaded = moe::load_model(folder / "model", std::nullopt);
  EXPECT_EQ(to_json(loaded.description), to_json(d));
  EXPECT_TRUE(same_bits(loaded.tensors, tensors));
  EXPECT_EQ(loaded.metadata.at("note"), "kept");
  const at::Tensor images = random_tensor("images", {2, 1, 8, 8});
  EXPECT_TRUE(same_bits(moe::make_network(loaded.description, loaded.tensors)->logits(images),
                        Vit(d.vit, tensors).logits(images)));
}

TEST(Description, AForeignFileNeedsTheConfigurations) {
  const TemporaryFolder folder;
  const ModelDescription d = tiny_description();
  save_weights(folder / "foreign", random_vit_tensors(d.vit), {});
  EXPECT_FALSE(find_description({{"format", "pt"}}, "file"));
  expect_error(ExitCode::config, {(folder / "foreign").string(), "model.name"},
               [&] { moe::load_model(folder / "foreign", std::nullopt); });
  EXPECT_EQ(moe::load_model(folder / "foreign", d).description.name, "tiny");
  ModelDescription other = d;
  other.vit.classes = 10;
  expect_error(ExitCode::model, {"'head.bias'", "[3]", "[10]"}, [&] { moe::load_model(folder / "foreign", other); });
}

TEST(Description, MetadataThatIsNotJson) {
  expect_error(ExitCode::input, {"some/file", kDescriptionKey}, [] {
    find_description({{kDescriptionKey, "{\"name\": "}}, "some/file");
  });
  for (const char* text : {"[]", "3", "null", "{}", "\"vit\""}) {
    expect_error(ExitCode::input, {"some/file", "architecture"}, [&] {
      find_description({{kDescriptionKey, text}}, "some/file");
    });
  }
}

TEST(Description, DamageNamesTheMember) {
  const json whole = to_json(unusual());
  const auto expect = [&](const std::string& pointer, const json& value, const std::string& part) {
    json changed = whole;
    changed[json::json_pointer(pointer)] = value;
    SCOPED_TRACE(pointer + " = " + value.dump());
    expect_error(ExitCode::input, {"some/file", part}, [&] { description_from_json(changed, "some/file"); });
  };
  // Every member can be missing or of another kind.
  for (const char* section : {"", "vit", "preprocess"}) {
    const json& object = *section ? whole.at(section) : whole;
    for (const auto& [member, value] : object.items()) {
      json changed = whole;
      (*section ? changed.at(section) : changed).erase(member);
      SCOPED_TRACE(member);
      if (member == "short_last_block") {  // younger than the format: absent means false
        EXPECT_FALSE(description_from_json(changed, "some/file").vit.short_last_block);
      } else {
        expect_error(ExitCode::input, {"some/file", member}, [&] { description_from_json(changed, "some/file"); });
      }
      expect(std::string(*section ? "/" : "") + section + "/" + member, json::object({{"a", nullptr}}), member);
    }
  }
  expect("/architecture", "resnet", "resnet");
  expect("/vit/width", 8.5, "vit.width");
  expect("/vit/width", 0, "width");
  expect("/vit/heads", 3, "heads");
  expect("/vit/image_size", 16, "crop");
  expect("/preprocess/crop", 224, "crop");
  expect("/preprocess/channels", 3, "channels");
  expect("/preprocess/resize_mode", "longer", "longer");
  expect("/preprocess/interpolation", "nearest", "nearest");
  expect("/preprocess/mean", json::array({0.5}), "mean");
}

}  // namespace
}  // namespace moextract::model::test
