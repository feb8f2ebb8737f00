// Sweep files: keys and values, random draws, constraints.
#include <nlohmann/json.hpp>

#include "config/reader.h"
#include "config/render.h"
#include "fuzz_case.h"
#include "sweep/sweep_file.h"
#include "tests/pipeline/sweep/sample.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    sweep::SampleConfig config;
    config::FieldList fields = config.fields();
    const sweep::SweepFile file = sweep::read_sweep_file(input.path(), fields);
    const std::vector<sweep::Settings> runs = sweep::expand(file);
    for (std::size_t i = 0; i < std::min<std::size_t>(runs.size(), 20); ++i) {
      for (const sweep::Setting& setting : runs[i]) config::apply_setting(setting.key + "=" + setting.value, fields);
      const nlohmann::json values = config::to_json(fields, false);
      for (const sweep::Constraint& constraint : file.constraints) static_cast<void>(constraint.holds(values));
    }
  });
  return 0;
}
