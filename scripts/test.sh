#!/usr/bin/env bash
# scripts/test.sh [ctest options...]: installs what is missing, builds everything and runs all tests.
#
# From a clean clone on 2 cores it takes up to 40 minutes. Arguments go to ctest: scripts/test.sh -R cluster
# A test whose data or tools are absent is skipped and named in the summary.
#
#   --help   this text
#
# Environment: MOEXTRACT_TEST_DATA      folder with the real models and images; ../shared/data beside the checkout is
#                                       taken where it exists
#              MOEXTRACT_SKIP_PYTHON=1  no virtual environment in build/venv: tests that compare with Python are skipped
#              MOEXTRACT_TEST_PYTHON    a Python that has scripts/python-requirements.txt, instead of build/venv
#              MOEXTRACT_TEST_JOBS      number of tests at once, by default the number of cores
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/jobs.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/python.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/summary.sh"

case ${1:-} in
  -h | --help)
    print_help "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

# The virtual environment of the tests. Its marker holds the requirements and is written last.
prepare_python() {
  local venv=$root/build/venv requirements=$root/scripts/python-requirements.txt python
  if [[ -x $venv/bin/python ]] && cmp -s "$requirements" "$venv/moextract-requirements"; then
    say "The virtual environment build/venv is ready."
    return 0
  fi
  python=$(suitable_python) || return 1
  mkdir -p "$root/build"
  make_venv "$python" "$venv" || {
    say "$python cannot make a virtual environment with pip: install the packages python3-venv and python3-pip"
    return 1
  }
  "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --only-binary=:all: \
    -r "$requirements" >&2 || {
    say "pip could not install scripts/python-requirements.txt; its messages stand above"
    return 1
  }
  cp "$requirements" "$venv/moextract-requirements"
}

if [[ -z ${MOEXTRACT_TEST_DATA:-} && -d $root/../shared/data ]]; then
  MOEXTRACT_TEST_DATA=$(cd "$root/../shared/data" && pwd)
  export MOEXTRACT_TEST_DATA
fi
say "Test data: ${MOEXTRACT_TEST_DATA:-none (MOEXTRACT_TEST_DATA is not set), tests that need them are skipped}"

phase "Packages for the tests" "$root/scripts/install-packages.sh" --tests
"$root/scripts/build.sh" release
fuzz=0
"$root/scripts/fuzz.sh" --build || fuzz=$?
((fuzz == 0 || fuzz == 77)) || say "The fuzz targets could not be built; the first error stands above, and their test is skipped"
if [[ ${MOEXTRACT_SKIP_PYTHON:-0} == 1 ]]; then
  unset MOEXTRACT_TEST_PYTHON
  say "MOEXTRACT_SKIP_PYTHON=1: tests that compare with Python are skipped"
elif [[ -z ${MOEXTRACT_TEST_PYTHON:-} ]]; then
  phase "Python for the tests" prepare_python || die "no Python for the tests: mend what stands above, or leave those \
tests out by MOEXTRACT_SKIP_PYTHON=1"
  export MOEXTRACT_TEST_PYTHON=$root/build/venv/bin/python
fi

cd "$root"
log=$root/build/release/Testing/Temporary/LastTest.log
rm -f -- "$log"
status=0
phase "Tests" ctest --preset release --output-on-failure --no-tests=error \
  --parallel "${MOEXTRACT_TEST_JOBS:-$(core_count)}" "$@" < /dev/null || status=$?
test_summary "$log" >&2
if ((status != 0)); then
  die "tests failed; their output stands above and in build/release/Testing/Temporary/LastTest.log. Once more, only \
those: (cd '$root' && ctest --preset release --rerun-failed)" "$status"
fi
say "All tests passed, $(duration $SECONDS) in all."
