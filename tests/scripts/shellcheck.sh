#!/usr/bin/env bash
# Every shell script of the project is clean for shellcheck and can be executed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
command -v shellcheck > /dev/null || skip "shellcheck is not installed (scripts/install-packages.sh --tests)"

cd "$root"
scripts=()
while IFS= read -r -d '' file; do
  first=$(head -n 1 "$file" | tr -d '\0')
  case $first in
    '#!'*sh) [[ -x $file ]] || failed "$file starts with #! but is not executable: chmod +x $file" ;;
    '# shellcheck shell='*) ;;
    *) continue ;;
  esac
  scripts+=("$file")
done < <(find scripts tests bench slurm .ci -type f \( -name '*.sh' -o -name '*.sbatch' -o -path '.ci/*' \) -print0)

((${#scripts[@]} >= 8)) || failed "only ${#scripts[@]} scripts found in $root"
shellcheck -x "${scripts[@]}" || failed "shellcheck has remarks"
echo "${#scripts[@]} scripts checked"
finish
