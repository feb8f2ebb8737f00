// Configurations: the YAML reader over a field of every type, --set, and the site file of a cluster.
#include "config/render.h"
#include "fuzz_case.h"
#include "slurm/site.h"
#include "tests/pipeline/config/sample.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    config::SampleParams params;
    config::FieldList fields = params.fields();
    config::read_yaml(input.path(), fields);
    config::check_required(fields, input.path());
    // What was read is written so that it reads back.
    const std::string text = config::to_yaml(fields);
    const fuzz::InputFile again({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    config::SampleParams same;
    config::FieldList same_fields = same.fields();
    config::read_yaml(again.path(), same_fields);
    MOEX_ASSERT(config::to_yaml(same_fields) == text, "a configuration survives being written and read");
  });
  fuzz::accept_or_refuse([&] { static_cast<void>(slurm::read_site(input.path())); });
  fuzz::accept_or_refuse([&] {
    config::SampleParams params;
    config::FieldList fields = params.fields();
    config::apply_setting(std::string_view(reinterpret_cast<const char*>(data), size), fields);
  });
  return 0;
}
