// What stands in the folders or tar files of an image set, kept in a file: a million names are gathered once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moextract::data {

struct ListedMember {
  std::string name;          ///< in its folder or tar
  std::int64_t offset = 0;   ///< tar: of its data
  std::int64_t size = 0;     ///< bytes
  std::int64_t changed = 0;  ///< folder: time of its last change, as file_state gives it
  bool link = false;         ///< tar: has no data of its own; folder: leads nowhere
};

/// A folder with its files (not those of its subfolders), or a tar.
struct ListedPlace {
  std::string name;                    ///< path relative to the set's source; empty: the source itself
  std::int64_t size = 0, changed = 0;  ///< of the tar; of a folder the time alone
  std::vector<ListedMember> members;   ///< sorted by name
};

/// Size and time of last change (nanoseconds of std::filesystem's clock) of what `path` leads to. Throws UserError
/// (input) naming it.
struct FileState {
  std::int64_t size = 0, changed = 0;
};
FileState file_state(const std::filesystem::path& path);

/// Where the listing of `source` is kept in `folder`; nowhere (empty) if `folder` is.
std::filesystem::path listing_file(const std::filesystem::path& folder, const std::filesystem::path& source);

/// A kept listing in which every folder and tar still has the time (tars: and the size) that it had; otherwise nothing,
/// also if the file is missing or damaged. Places that changed within two seconds before they were listed are not
/// believed: a later change could have left the same time. Nor is a listing with a link that leads somewhere by now.
std::optional<std::vector<ListedPlace>> load_listing(const std::filesystem::path& file,
                                                     const std::filesystem::path& source);

/// Keeps a listing that was begun at `began` (of file_clock_now). That it cannot be kept is no error: it will be made
/// again.
void save_listing(const std::filesystem::path& file, const std::vector<ListedPlace>& places, std::int64_t began);

/// Now, as file_state gives times.
std::int64_t file_clock_now();

/// Every folder under `source` (links are followed, hidden class folders left out), itself first, then sorted by name,
/// with its files and the links that lead nowhere.
/// Throws UserError (input).
std::vector<ListedPlace> list_folders(const std::filesystem::path& source);

}  // namespace moextract::data
