#include "core/json_text.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace moextract {

nlohmann::json parse_json(std::string_view text) {
  constexpr int kDeepest = 64;
  using Json = nlohmann::json;
  constexpr double kMostWhole = 9223372036854775808.0;  // 2^63
  bool too_much = false;
  Json value = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t event, Json& parsed) {
        too_much = too_much || depth > kDeepest;
        if (event == Json::parse_event_t::value && parsed.is_number_float() &&
            !(std::abs(parsed.get<double>()) < kMostWhole))
          too_much = true;
        return !too_much;  // what is deeper is left out, so that nothing deep is ever held
      },
      false);
  return too_much ? Json(Json::value_t::discarded) : value;
}

std::string json_text(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace moextract
