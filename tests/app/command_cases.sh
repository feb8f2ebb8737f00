#!/usr/bin/env bash
# command_cases.sh PROGRAM: commands and keys that do not exist, and what inspect says of files of ours.
set -uo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() {
  echo "$*; it said:"
  cat "$work/log"
  exit 1
}
expect() { # CODE ARGUMENTS...
  local code=0 wanted=$1
  shift
  "$program" "$@" > "$work/log" 2>&1 || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: moextract $*"
}
says() { grep -qF -- "$1" "$work/log" || complain "it does not say: $1"; }

expect 2 colect configs/quickstart.yaml
says "there is no command colect: did you mean collect? moextract --help lists them"
expect 2 reference cluster.kk
says "there is no key cluster.kk: did you mean cluster.k? moextract reference prints all"
expect 0 reference cluster.k
says "cluster.k"
expect 2 doctor --nodes 2

cd "$work" || exit 1
printf '{"inertia":2.5,"iteration":1}\n{"inertia":2.0,"iteration":2}\n' > layer-000.iterations.jsonl
expect 0 inspect layer-000.iterations.jsonl
says "records 2"
printf '{"inertia":2.5\n' > cut.jsonl
expect 4 inspect cut.jsonl
says "cut.jsonl: line 1 is not JSON, or is cut short"
printf '{"format":"moextract-manifest","stage":"collect","ranks":2,"inputs":{"model":"ab"},"counts":{"rows":7},"files":{"a.h5":{"bytes":5},"b.h5":{"bytes":6}}}' > manifest.json
expect 0 inspect .
says "artefact of stage collect"
says "rows: 7"
says "files: 2, 11 bytes in all"
printf '{"format":"moextract-manifest","ranks":"two"}' > manifest.json
expect 4 inspect manifest.json
says "manifest.json: is a manifest with a field of another kind than ours"
printf '0123\n' > DONE
expect 0 inspect DONE
says "hash of its manifest 0123"
echo "commands: as expected"
