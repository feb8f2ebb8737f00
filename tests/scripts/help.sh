#!/usr/bin/env bash
# Each script explains itself from any folder, and names an argument that it does not know.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"

cd /
for script in "$root"/scripts/*.sh; do
  name=$(basename "$script")
  run 0 "$script" --help
  expect_output "scripts/$name"
  expect_output "--help"
  expect_no_output "set -euo"
done
for name in build install-packages install-libtorch sanitize fuzz; do
  run 2 "$root/scripts/$name.sh" --no-such-thing
  expect_output "--no-such-thing"
done
run 2 "$root/scripts/build.sh" fast
expect_output "release, debug, asan, tsan, gpu"

# The presets that build.sh knows are those of CMake.
for preset in release debug asan tsan gpu; do
  grep -q "\"name\": \"$preset\", \"configurePreset\"" "$root/CMakePresets.json" || failed "CMakePresets.json lacks $preset"
done
grep -q '^exec scripts/test.sh' "$root/.ci/run" || failed ".ci/run does not call scripts/test.sh"
finish
