// YAML and --set into the structs that a FieldList refers to.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/field_list.h"

namespace moextract::config {

/// Reads `file` into the fields. Values may hold ${VAR} and ${VAR:-default} ("$${" is a plain "${"). Relative paths are
/// taken from the config file's folder (output paths from the working folder). A top-level `include: other.yaml`,
/// relative to the file, is read first and then overridden. `cluster.k: 8` means the same as `k: 8` under `cluster:`.
/// Throws UserError (config) of the form
///   configs/a.yaml:12:5: cluster.kk: no such key; did you mean cluster.k?
///   configs/a.yaml:12:8: cluster.k: expected a whole number of at least 1, got 'many'
/// for unreadable files, syntax errors, unknown and duplicate keys, wrong types, values out of bounds, unset variables.
/// Lines and columns count from 1, columns in bytes. Fields read before the error keep their new values. Missing
/// required fields are left to check_required(), because --set may still give them. `used` (optional) receives the
/// paths of the fields that the file and what it includes set, each once.
void read_yaml(const std::filesystem::path& file, FieldList& fields, std::vector<std::string>* used = nullptr);

/// Applies "cluster.k=16", by the rules of read_yaml; text need not be quoted, a list is "data.mean=[0.5, 0.5, 0.5]".
/// Relative paths are taken from the working folder. Messages begin with "--set cluster.k=16:".
void apply_setting(std::string_view setting, FieldList& fields);

/// The field named `path`. Throws UserError (config) of the form "<prefix>no such key; did you mean ...?".
Field& need_field(FieldList& fields, const std::string& path, const std::string& prefix);

/// Checks, after reading and settings, that all required fields have a value: texts, paths and lists are not empty,
/// numbers, switches and names were given. Throws UserError (config) that lists all that are missing.
void check_required(const FieldList& fields, const std::filesystem::path& file);

/// Nearest of `candidates` by edit distance (swapped neighbours count once, capitals do not count), or "" if none is
/// near: at most a third of the longer name, at least one edit, may differ. The first of equals wins.
std::string nearest_name(std::string_view wanted, const std::vector<std::string>& candidates);

}  // namespace moextract::config
