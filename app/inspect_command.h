// moextract inspect: any file of ours, or a safetensors file, in words.
#pragma once

#include <filesystem>
#include <string>

namespace moextract::app {

/// Text about a shard, a model, a clusters file, a JSON file of ours or an artefact's folder. Throws UserError (input)
/// for anything else.
std::string inspect_file(const std::filesystem::path& path);

}  // namespace moextract::app
