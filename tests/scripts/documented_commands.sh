#!/usr/bin/env bash
# documented_commands.sh [PROGRAM]: what README.md and docs/ tell a reader to type exists: scripts, configurations and,
# with PROGRAM, each subcommand of moextract.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
program=${1:-}

cd "$root"
[[ -f README.md ]] || {
  failed "README.md is missing"
  finish
}

# The commands: lines of fenced blocks that are marked as shell (sh, bash, console) or not marked, and indented lines.
# Continued lines are joined, prompts and comments taken off.
commands() {
  awk '
    /^[ \t]*```/ { if (fenced) { fenced = 0; next } fenced = 1; shell = /```(sh|bash|shell|console)?[ \t]*$/; next }
    fenced && !shell { next }
    fenced || joined != "" || /^    / {
      line = joined $0
      if (line ~ /\\$/) { joined = substr(line, 1, length(line) - 1) " "; next }
      joined = ""
      sub(/^[ \t]*(\$ )?/, "", line); sub(/(^|[ \t])#.*/, "", line)
      if (line != "") print FILENAME ":" FNR "\t" line
    }' "$@"
}

# Asked once for each subcommand.
declare -A known
subcommand_exists() {
  if [[ -z ${known[$1]:-} ]]; then known[$1]=$("$program" "$1" --help 2> /dev/null < /dev/null) || known[$1]=no; fi
  [[ ${known[$1]} != no ]]
}
# option_exists SUBCOMMAND --OPTION
option_exists() { grep -qE -- "(^|[ ,])$2([ ,=]|\$)" <<< "${known[$1]}"; }

checked=0
quickstart=0
while IFS=$'\t' read -r place line; do
  read -r -a words <<< "$line"
  for ((i = 0; i < ${#words[@]}; ++i)); do
    word=${words[i]}
    case $word in
      scripts/*.sh | .ci/run | tests/*.sh | tests/*.py | bench/*.sh | bench/*.py)
        checked=$((checked + 1))
        if [[ ! -e $word ]]; then
          failed "$place: $word does not exist"
        elif ((i == 0)) && [[ ! -x $word ]]; then
          failed "$place: $word cannot be executed"
        fi
        [[ $word != scripts/quickstart.sh || $place != README.md:* ]] || quickstart=1
        ;;
      configs/*.yaml | models/*.safetensors | models/*.md | docs/*.md)
        checked=$((checked + 1))
        [[ -e $word ]] || failed "$place: $word does not exist"
        ;;
      moextract | */bin/moextract)
        next=${words[i + 1]:-}
        if [[ $next =~ ^[a-z][a-z-]*(\|[a-z-]+)*$ ]]; then
          IFS='|' read -r -a subcommands <<< "$next"
          for subcommand in "${subcommands[@]}"; do
            checked=$((checked + 1))
            [[ -x $program ]] || continue
            if ! subcommand_exists "$subcommand"; then
              failed "$place: moextract has no subcommand '$subcommand'"
              continue
            fi
            # Its options, up to the end of the command or what is quoted into another.
            for option in "${words[@]:i + 2}"; do
              [[ $option != *[';|`']* && $option != moextract ]] || break
              [[ $option =~ ^--[a-z][a-z-]*$ ]] || continue
              checked=$((checked + 1))
              option_exists "$subcommand" "$option" || failed "$place: moextract $subcommand has no option $option"
            done
          done
        fi
        ;;
    esac
  done
done < <(find README.md CONTRIBUTING.md docs -name '*.md' -print0 | sort -z | while IFS= read -r -d '' file; do
  commands "$file"
done)

# Options that are named in a sentence: of some subcommand, of one of the scripts (of benchmarks: their leading comments), or of
# the programs listed here.
if [[ -x $program ]]; then
  foreign='--allow-run-as-root --bind-to --oversubscribe --mpi --kill-on-bad-exit --signal --constraint'
  foreign+=' --install --component --prefix' # of cmake
  all_help=$(
    "$program" --help < /dev/null
    # shellcheck disable=SC2013  # names of subcommands are words
    for subcommand in $("$program" --help < /dev/null | sed -n '/^Subcommands:/,$ s/^  \([a-z][a-z-]*\) .*/\1/p'); do
      "$program" "$subcommand" --help < /dev/null
    done
    for script in scripts/*.sh; do "$script" --help < /dev/null; done
    grep -h '^#' bench/*/run.sh
  )
  while IFS=: read -r place option; do
    checked=$((checked + 1))
    [[ " $foreign " != *" $option "* ]] || continue
    grep -qE -- "(^|[^a-z-])$option([^a-z-]|\$)" <<< "$all_help" || failed "$place: nothing has an option $option"
  done < <(grep -roE --include='*.md' -- '(^|[^A-Za-z0-9-])--[a-z][a-z-]+' README.md docs | sed 's/:.*--/:--/' | sort -u)
fi

((quickstart == 1)) || failed "README.md does not show scripts/quickstart.sh"
((checked >= 5)) || failed "only $checked things to check were found in README.md and docs/"
[[ -x $program ]] || echo "the program is not built: its subcommands were not tried"
echo "$checked scripts, files and subcommands checked"
finish
