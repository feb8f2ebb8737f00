# shellcheck shell=bash
# The few checks that the script tests share. A failed check is counted and the test goes on; finish says how it ended.
failures=0
# shellcheck disable=SC2034  # for the scripts that include this one
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

skip() {
  printf 'SKIPPED: %s\n' "$*"
  exit 77
}

failed() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

# run EXPECTED_STATUS COMMAND [ARGS...]: output and messages go to $output.
run() {
  local expected=$1 status=0
  shift
  output=$("$@" 2>&1 < /dev/null) || status=$?
  ((status == expected)) || failed "exit status $status instead of $expected from: $*
$output"
}

expect_output() { [[ $output == *"$1"* ]] || failed "no '$1' in: $output"; }
expect_no_output() { [[ $output != *"$1"* ]] || failed "'$1' should not be in: $output"; }
expect_file() { [[ -e $1 ]] || failed "$1 should exist"; }
expect_no_file() { [[ ! -e $1 ]] || failed "$1 should not exist"; }

finish() {
  ((failures == 0)) || {
    printf '%d checks failed\n' "$failures"
    exit 1
  }
  echo "all checks passed"
}
