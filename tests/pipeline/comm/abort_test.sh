#!/usr/bin/env bash
# abort_test.sh MPIRUN_SCRIPT PROBE MODE EXPECTED_CODE: one of three ranks ends badly; the job must end within 20 seconds with
# that rank's exit code.
set -uo pipefail
mpirun=$1 probe=$2 mode=$3 expected=$4
log=$(mktemp)
trap 'rm -f "$log"' EXIT

started=$SECONDS
timeout --kill-after=5 20 "$mpirun" 3 "$probe" "$mode" >"$log" 2>&1
code=$?
echo "mode $mode: exit code $code after $((SECONDS - started)) s"
if [ "$code" -ne "$expected" ]; then
  echo "expected exit code $expected (124: the job hung)"
  cat "$log"
  exit 1
fi
if [ "$mode" = throw ] && ! grep -q "caught outside of the session: disk full" "$log"; then
  echo "the cause was not printed"
  cat "$log"
  exit 1
fi
