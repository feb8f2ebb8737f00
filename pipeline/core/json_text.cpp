#include "core/json_text.h"

#include <nlohmann/json.hpp>

namespace moextract {

nlohmann::json parse_json(std::string_view text) {
  constexpr int kDeepest = 64;
  using Json = nlohmann::json;
  bool too_deep = false;
  Json value = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kDeepest;
        return !too_deep;  // what is deeper is left out, so that nothing deep is ever held
      },
      false);
  return too_deep ? Json(Json::value_t::discarded) : value;
}

}  // namespace moextract
