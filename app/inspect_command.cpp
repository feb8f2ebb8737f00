#include "app/inspect_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json_text.h"
#include "model/description.h"
#include "moe/expert_mlp.h"
#include "moe/model_file.h"
#include "store/activation_shard.h"
#include "store/safetensors.h"

namespace moextract::app {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::string inspect_shard(const fs::path& path) {
  const store::ShardReader shard(path);
  const store::ShardInfo& info = shard.info();
  std::string text = fmt::format(
      "activation shard {}\n  rows: {}, of {} images (numbers {} to {} of the calibration set)\n  model hash: {}\n  "
      "data fingerprint: {}\n"
      "  seed of the token choice: {}\n",
      path.string(), shard.rows(), shard.images().size(), info.first_image, info.first_image + info.image_count - 1,
      info.model_hash, info.data_fingerprint, info.seed);
  for (const store::ShardLayer& layer : info.layers) {
    text += fmt::format("  layer {:>3}: x [{}, {}], h [{}, {}] float16\n", layer.layer, shard.rows(), layer.x_width,
                        shard.rows(), layer.h_width);
  }
  return text;
}

std::string inspect_safetensors(const fs::path& path) {
  const store::SafetensorsFile file(path);
  std::string text = fmt::format("safetensors file {}: {} tensors\n", path.string(), file.tensors().size());
  if (const auto description = model::find_description(file.metadata(), path.string())) {
    const moe::LoadedModel loaded = moe::load_model(path, std::nullopt);
    const model::VitParams& vit = description->vit;
    text += fmt::format(
        "  model {}: {} blocks, width {}, {} heads, {} hidden neurons, patch {} of {} pixels, {} classes\n",
        description->name, vit.depth, vit.width, vit.heads, vit.hidden, vit.patch_size, vit.image_size, vit.classes);
    text += fmt::format("  {} parameters\n", model::count_parameters(loaded.tensors));
    for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
      const moe::LayerSummary summary = moe::summarise_layer(layer, loaded.tensors);
      if (summary.k == 0) {
        text += fmt::format("  layer {:>3}: {}, {} of {} neurons\n", layer,
                            summary.union_size < vit.hidden ? "pruned" : "dense", summary.union_size, vit.hidden);
      } else {
        text += fmt::format("  layer {:>3}: {} experts of {} neurons, union {} of {}\n", layer, summary.k,
                            fmt::join(summary.sizes, ", "), summary.union_size, vit.hidden);
      }
    }
  }
  for (const auto& [key, value] : file.metadata()) {
    text += fmt::format("  metadata {}: {}\n", key, value.size() > 200 ? value.substr(0, 200) + " ..." : value);
  }
  for (const auto& [name, view] : file.tensors()) {
    text += fmt::format("  {:<40} {:<5} [{}]\n", name, store::type_name(view.type), fmt::join(view.shape, ", "));
  }
  return text;
}

/// Iterations of k-means: a record a line.
std::string inspect_lines(const fs::path& path) {
  std::ifstream stream(path);
  std::string text, line;
  std::int64_t records = 0;
  for (; std::getline(stream, line); ++records) {
    if (parse_json(line).is_discarded())
      fail(ExitCode::input, "{}: line {} is not JSON, or is cut short", path.string(), records + 1);
    text += "  " + line + "\n";
  }
  return fmt::format("JSON lines {}: records {}\n{}", path.string(), records, text);
}

/// An artefact in words.
std::string manifest_text(const fs::path& path, const json& manifest) try {
  std::string text =
      fmt::format("  artefact of stage {}, finished {} by version {}, ranks {} of {} threads\n",
                  manifest.value("stage", "?"), manifest.value("finished", "?"), manifest.value("program_version", "?"),
                  manifest.value("ranks", std::int64_t{0}), manifest.value("threads_per_rank", std::int64_t{0}));
  const json inputs = manifest.value("inputs", json::object()), counts = manifest.value("counts", json::object()),
             files = manifest.value("files", json::object());
  for (const auto& [name, hash] : inputs.items()) text += fmt::format("  made from {}: {}\n", name, hash.dump());
  for (const auto& [name, count] : counts.items()) text += fmt::format("  {}: {}\n", name, count.dump());
  std::int64_t bytes = 0;
  for (const auto& [name, file] : files.items()) bytes += file.value("bytes", std::int64_t{0});
  return text + fmt::format("  files: {}, {} bytes in all\n", files.size(), bytes);
} catch (const json::exception& error) {
  fail(ExitCode::input, "{}: is a manifest with a field of another kind than ours ({})", path.string(), error.what());
}

std::string inspect_json(const fs::path& path) {
  const json value = parse_json(read_text_file(path));
  if (value.is_discarded()) fail(ExitCode::input, "{}: is not JSON, or is cut short", path.string());
  const std::string kind = value.is_object() ? value.value("format", "JSON file") : "JSON file";
  return fmt::format("{} {}\n{}{}\n", kind, path.string(),
                     kind == "moextract-manifest" ? manifest_text(path, value) : "", value.dump(2));
}

}  // namespace

std::string inspect_file(const fs::path& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(path / "manifest.json")) return inspect_json(path / "manifest.json");
    if (fs::exists(path / "run.json")) return inspect_json(path / "run.json");
    fail(ExitCode::input, "{}: is a folder, but neither an artefact (manifest.json) nor a run (run.json)",
         path.string());
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ExitCode::input, "{}: cannot be read", path.string());
  char head[9] = {};
  file.read(head, 9);
  if (std::string_view(head, 8) == "\x89HDF\r\n\x1a\n") return inspect_shard(path);
  if (path.extension() == ".jsonl") return inspect_lines(path);
  if (head[8] == '{') return inspect_safetensors(path);
  if (head[0] == '{' || head[0] == '[') return inspect_json(path);
  if (path.filename() == "DONE") {
    const std::string text = read_text_file(path);
    return fmt::format("mark of a finished artefact {}: hash of its manifest {}\n", path.string(),
                       text.substr(0, text.find('\n')));
  }
  fail(ExitCode::input,
       "{}: is neither an HDF5 shard, nor a safetensors file, nor JSON of ours; tables (CSV) and pages "
       "are read as they are",
       path.string());
}

}  // namespace moextract::app
