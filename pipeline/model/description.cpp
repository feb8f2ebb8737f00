#include "model/description.h"

#include <array>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "core/error.h"
#include "core/json_text.h"

namespace moextract::model {

using nlohmann::json;
namespace {

[[noreturn]] void fail_damaged(const std::string& origin, const std::string& what) {
  fail(ExitCode::input, "{}: the model description '{}' is damaged ({}): make the file again", origin, kDescriptionKey,
       what);
}

/// Reads members one by one, so that an error can name the one it is about: the JSON library does not.
class MemberReader {
 public:
  MemberReader(const json& object, const char* where, const std::string& origin)
      : object_(object), where_(where), origin_(origin) {}

  template <class T>
  T get(const char* member) const {
    const bool whole = std::is_integral_v<T> && !std::is_same_v<T, bool>;
    try {
      const json& value = object_.at(member);
      if (whole && !value.is_number_integer()) {
        fail_damaged(origin_, fmt::format("{}{} is not a whole number", where_, member));
      }
      return value.get<T>();
    } catch (const json::exception& error) {
      fail_damaged(origin_, fmt::format("{}{}: {}", where_, member, error.what()));
    }
  }
  /// The member is one of two words; whether it is the first.
  bool is_first(const char* member, const char* first, const char* second) const {
    const auto value = get<std::string>(member);
    if (value != first && value != second) {
      fail_damaged(origin_, fmt::format("{}{} is '{}', not '{}' or '{}'", where_, member, value, first, second));
    }
    return value == first;
  }

 private:
  const json& object_;
  const char* where_;
  const std::string& origin_;
};

}  // namespace

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
            {"norm_eps", v.norm_eps},
            {"short_last_block", v.short_last_block}}},
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
  const MemberReader top(j, "", origin);
  if (const auto architecture = top.get<std::string>("architecture"); architecture != "vit") {
    fail(ExitCode::input, "{}: architecture '{}' is not known to this version", origin, architecture);
  }
  ModelDescription d;
  d.name = top.get<std::string>("name");
  const json vit = top.get<json>("vit"), preprocess = top.get<json>("preprocess");
  const MemberReader v(vit, "vit.", origin), p(preprocess, "preprocess.", origin);
  d.vit = {.image_size = v.get<std::int64_t>("image_size"),
           .patch_size = v.get<std::int64_t>("patch_size"),
           .channels = v.get<std::int64_t>("channels"),
           .width = v.get<std::int64_t>("width"),
           .depth = v.get<std::int64_t>("depth"),
           .heads = v.get<std::int64_t>("heads"),
           .hidden = v.get<std::int64_t>("hidden"),
           .classes = v.get<std::int64_t>("classes"),
           .qkv_bias = v.get<bool>("qkv_bias"),
           .class_token = v.get<bool>("class_token"),
           .distilled = v.get<bool>("distilled"),
           .norm_eps = v.get<double>("norm_eps"),
           .short_last_block = vit.contains("short_last_block") && v.get<bool>("short_last_block")};
  try {
    validate(d.vit);
  } catch (const UserError& error) {  // speaks of the configuration, which is not at fault here
    fail_damaged(origin, error.what());
  }
  if (p.get<std::int64_t>("crop") != d.vit.image_size) fail_damaged(origin, "preprocess.crop is not vit.image_size");
  if (p.get<std::int64_t>("channels") != d.vit.channels)
    fail_damaged(origin, "preprocess.channels is not vit.channels");
  d.preprocess = {.resize = p.get<int>("resize"),
                  .resize_mode = p.is_first("resize_mode", "shorter", "squash") ? data::ResizeMode::shorter
                                                                                : data::ResizeMode::squash,
                  .interpolation = p.is_first("interpolation", "bicubic", "bilinear") ? data::Interpolation::bicubic
                                                                                      : data::Interpolation::bilinear,
                  .crop = p.get<int>("crop"),
                  .channels = p.get<int>("channels"),
                  .mean = p.get<std::array<double, 3>>("mean"),
                  .std = p.get<std::array<double, 3>>("std")};
  return d;
}

std::optional<ModelDescription> find_description(const Metadata& metadata, const std::string& origin) {
  const auto found = metadata.find(kDescriptionKey);
  if (found == metadata.end()) return std::nullopt;
  const json j = parse_json(found->second);
  if (j.is_discarded())
    fail(ExitCode::input, "{}: the metadata '{}' is not JSON: make the file again", origin, kDescriptionKey);
  return description_from_json(j, origin);
}

}  // namespace moextract::model
