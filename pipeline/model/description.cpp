#include "model/description.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace moextract::model {

using nlohmann::json;

json to_json(const ModelDescription& d) {
  const VitParams& v = d.vit;
  const data::PreprocessParams& p = d.preprocess;
  return {{"name", d.name},
          {"architecture", "vit"},
          {"vit",
           {{"image_size", v.image_size},
            {"patch_size", v.patch_size},
            {"channels", v.channels},
            {"width", v.width},
            {"depth", v.depth},
            {"heads", v.heads},
            {"hidden", v.hidden},
            {"classes", v.classes},
            {"qkv_bias", v.qkv_bias},
            {"class_token", v.class_token},
            {"distilled", v.distilled},
            {"norm_eps", v.norm_eps}}},
          {"preprocess",
           {{"resize", p.resize},
            {"resize_mode", p.resize_mode == data::ResizeMode::shorter ? "shorter" : "squash"},
            {"interpolation", p.interpolation == data::Interpolation::bicubic ? "bicubic" : "bilinear"},
            {"crop", p.crop},
            {"channels", p.channels},
            {"mean", p.mean},
            {"std", p.std}}}};
}

ModelDescription description_from_json(const json& j, const std::string& origin) {
  try {
    if (j.at("architecture") != "vit") {
      fail(ExitCode::input, "{}: architecture '{}' is not known to this version", origin, j.at("architecture").dump());
    }
    ModelDescription d;
    d.name = j.at("name");
    const json& v = j.at("vit");
    d.vit = {.image_size = v.at("image_size"),
             .patch_size = v.at("patch_size"),
             .channels = v.at("channels"),
             .width = v.at("width"),
             .depth = v.at("depth"),
             .heads = v.at("heads"),
             .hidden = v.at("hidden"),
             .classes = v.at("classes"),
             .qkv_bias = v.at("qkv_bias"),
             .class_token = v.at("class_token"),
             .distilled = v.at("distilled"),
             .norm_eps = v.at("norm_eps")};
    const json& p = j.at("preprocess");
    d.preprocess = {
        .resize = p.at("resize"),
        .resize_mode = p.at("resize_mode") == "shorter" ? data::ResizeMode::shorter : data::ResizeMode::squash,
        .interpolation =
            p.at("interpolation") == "bicubic" ? data::Interpolation::bicubic : data::Interpolation::bilinear,
        .crop = p.at("crop"),
        .channels = p.at("channels"),
        .mean = p.at("mean"),
        .std = p.at("std")};
    validate(d.vit);
    return d;
  } catch (const json::exception& error) {
    fail(ExitCode::input, "{}: the model description '{}' is damaged ({}): make the file again", origin,
         kDescriptionKey, error.what());
  }
}

std::optional<ModelDescription> find_description(const Metadata& metadata, const std::string& origin) {
  const auto found = metadata.find(kDescriptionKey);
  if (found == metadata.end()) return std::nullopt;
  const json j = json::parse(found->second, nullptr, false);
  if (j.is_discarded())
    fail(ExitCode::input, "{}: the metadata '{}' is not JSON: make the file again", origin, kDescriptionKey);
  return description_from_json(j, origin);
}

}  // namespace moextract::model
