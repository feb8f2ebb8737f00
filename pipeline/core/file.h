// Files written so that a reader never sees half of one: temporary name in the same folder, write, flush, fsync, rename.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace moextract {

/// Whole file as text. Throws UserError (input) naming the path and the system's reason.
std::string read_text_file(const std::filesystem::path& path);

/// Writes atomically and durably: after return the file is complete on disk under its name; on failure the old file, if
/// any, is untouched. Throws UserError (storage) naming the path and the system's reason.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content);
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// The same for a writer that wants a path of its own (HDF5): `write` gets the temporary path; then fsync and rename.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(const std::filesystem::path& temporary)>& write);

/// Makes a folder and its parents. Throws UserError (storage).
void make_folder(const std::filesystem::path& path);

/// Name that write_file_atomically gives to an unfinished file, so that leftovers can be told and swept.
bool is_temporary_name(const std::filesystem::path& path);

}  // namespace moextract
