// What a stage leaves: one folder, addressed by what determines its content. Runs that share a stage share its
// artefact.
//
//   <store>/<stage>-<16 hex digits>/   data files, manifest.json, and DONE, written last
//
// A folder without DONE is work begun: stages find their own finished files in it and go on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moextract::run {

/// All that determines an artefact's content. Nothing else may influence it.
struct ArtefactSpec {
  std::string stage;          ///< "collect"
  int algorithm_version = 1;  ///< raised whenever the same settings would give another content
  nlohmann::json settings;    ///< those that affect the result
  std::map<std::string, std::string>
      inputs;  ///< name -> key of an artefact, or hash of a file, or fingerprint of a data set

  /// 32 hex digits over all of the above.
  std::string key() const;
  /// "<stage>-<first 16 digits of the key>".
  std::string folder_name() const;
};

enum class ArtefactState { absent, begun, done, damaged };

/// Facts about how an artefact came to be; recorded, but no part of its address.
struct Provenance {
  std::string program_version;
  int ranks = 1, threads = 1;
  std::string device = "cpu";  ///< kind of the run's devices
  std::vector<std::string> hosts;
  double seconds = 0;
  nlohmann::json counts;  ///< what the stage counted: images, rows, skipped
};

class ArtefactStore {
 public:
  explicit ArtefactStore(std::filesystem::path root);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path folder(const ArtefactSpec& spec) const { return root_ / spec.folder_name(); }
  /// done: DONE and manifest are there, the manifest is of this key, every file has its size. damaged: DONE is there,
  /// but something of the rest is not (`why` says what).
  ArtefactState state(const ArtefactSpec& spec, std::string* why = nullptr) const;
  /// The same of a folder whose spec is not known: the manifest's key must fit the folder's name.
  static ArtefactState state_of(const std::filesystem::path& folder, std::string* why = nullptr);
  /// Makes the folder, and takes DONE away from a damaged one (see invalidate()) so that the stage runs again.
  std::filesystem::path begin(const ArtefactSpec& spec) const;
  /// Sweeps unfinished files, hashes all others, writes the manifest, then DONE.
  void finish(const ArtefactSpec& spec, const Provenance& provenance) const;
  /// The manifest of a finished artefact. Throws UserError (input) if it cannot be read.
  nlohmann::json manifest(const ArtefactSpec& spec) const { return manifest_of(folder(spec)); }
  static nlohmann::json manifest_of(const std::filesystem::path& folder);

  /// Compares every file of a finished artefact with the hash in its manifest, and its address with what determines it;
  /// returns what is wrong, one line each.
  static std::vector<std::string> verify(const std::filesystem::path& folder);

  /// Takes DONE away, and every file that is not what the manifest says, so that the stage makes these again and keeps
  /// the others; if the manifest itself is damaged, or with `all`, nothing can be trusted and all files go. Does
  /// nothing to a folder without DONE. Throws UserError (storage).
  static void invalidate(const std::filesystem::path& folder, bool all = false);

 private:
  std::filesystem::path root_;
};

}  // namespace moextract::run
