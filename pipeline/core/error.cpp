#include "core/error.h"

namespace moextract {

void assertion_failed(const char* condition, const char* file, int line, const std::string& note) {
  throw BugError(fmt::format("{}:{}: assertion '{}' failed: {}. This is a bug in moextract.", file, line, condition,
                             note));
}

}  // namespace moextract
