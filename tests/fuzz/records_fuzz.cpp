// The JSON files of ours that a run reads back: manifests, run records, locks, results.
#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "fuzz_case.h"
#include "report/results.h"
#include "run/artefact_lock.h"
#include "run/explain.h"
#include "run/run_folder.h"
#include "run/store_survey.h"

using namespace moextract;
namespace fs = std::filesystem;

namespace {

const fs::path& artefact() {
  static const fs::path folder = [] {
    const fs::path made = fuzz::scratch_folder() / "store" / "collect-0123456789abcdef";
    fs::create_directories(made);
    fs::create_directories(fuzz::scratch_folder() / "run");
    fuzz::put(made / "shard-000000.h5", "four");
    return made;
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const fs::path store = artefact().parent_path();
  fuzz::put(artefact() / "manifest.json", text);
  fuzz::put(artefact() / "DONE", hash_text(text) + "\n");
  std::string why;
  fuzz::accept_or_refuse([&] { run::ArtefactStore::state_of(artefact(), &why); });
  fuzz::accept_or_refuse([&] { run::ArtefactStore::verify(artefact()); });
  fuzz::accept_or_refuse([&] { run::survey_store(store); });
  fuzz::accept_or_refuse([&] {
    run::explain(run::ArtefactStore(store), {.stage = "collect", .settings = {{"k", 1}}, .inputs = {}});
  });

  const fs::path folder = fuzz::scratch_folder() / "run";
  fuzz::put(folder / "run.json", text);
  fuzz::accept_or_refuse([&] { run::read_run_record(folder); });
  fuzz::accept_or_refuse([&] { run::claim_run_folder(folder, {{"cluster", {{"k", 8}}}}, nlohmann::json::object()); });
  fuzz::accept_or_refuse([&] { run::plan_clean(store); });

  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    if (const auto holder = run::ArtefactLock::holder(input.path())) run::ArtefactLock::is_gone(*holder);
  });
  const nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_discarded()) fuzz::accept_or_refuse([&] { parse_results(value); });
  return 0;
}
