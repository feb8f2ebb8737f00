#!/usr/bin/env bash
# scripts/fuzz.sh [--seconds S] [--seed N] [--build | --no-build] [--keep] [TARGET...]: feeds the parsers damaged input.
#
# Builds the targets of tests/fuzz with clang, libFuzzer and the sanitizers of addresses and undefined behaviour into
# build/fuzz, and runs each of them for its share of the seconds, from a few small good files. An input must be accepted or
# refused with a message; a crash, an assertion, another exception, ten seconds for one input (pictures: 60), or more memory than a target
# may take is a finding: it is kept in build/fuzz/findings and named. TARGET is one or more of
#   safetensors shard tar idx csv listing image config sweep records description experts moments
#
#   --seconds S   for all targets together (default 60)
#   --seed N      of the random changes (default 1; 0: a new one)
#   --build       only build
#   --no-build    run what is built; ends with 77 where nothing is
#   --keep        keep the inputs that reached new code in build/fuzz/corpus, and begin the next run with them
#   --help        this text
#
# Ends with a line that counts targets, inputs and findings; exit code 1 if there is a finding, 77 without clang's libFuzzer.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/jobs.sh"

all=(safetensors shard tar idx csv listing image config sweep records description experts moments)
seconds=60 seed=1 build=1 run=1 keep=0
targets=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --seconds | --seed)
      [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a whole number" 2
      declare "${1#--}=$2"
      shift
      ;;
    --build) run=0 ;;
    --no-build) build=0 ;;
    --keep) keep=1 ;;
    -*) die "unknown argument '$1'; see --help" 2 ;;
    *)
      [[ " ${all[*]} " == *" $1 "* ]] || die "unknown target '$1': the targets are ${all[*]}" 2
      targets+=("$1")
      ;;
  esac
  shift
done
((${#targets[@]} > 0)) || targets=("${all[@]}")

bin=$root/build/fuzz/bin
if ((build)); then
  if ! command -v clang++ > /dev/null ||
    ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null 2> /dev/null; then
    echo "SKIPPED: no clang++ with libFuzzer (packages clang and libclang-rt-dev: scripts/install-packages.sh --tests)"
    exit 77
  fi
  cd "$root"
  phase "Configure (fuzz)" cmake --preset fuzz > /dev/null
  phase "Build (fuzz)" cmake --build "$root/build/fuzz" --parallel "${MOEXTRACT_JOBS:-$(compile_jobs)}" \
    "${targets[@]/#/--target=fuzz_}" > /dev/null
fi
((run)) || exit 0
for target in "${targets[@]}"; do
  [[ -x $bin/fuzz_$target ]] || {
    echo "SKIPPED: the fuzz targets are not built (scripts/fuzz.sh --build)"
    exit 77
  }
done

# Memory that one allocation may take, in MiB. The largest picture that is read has 200 million pixels of three bytes.
declare -A limit=([image]=700)
# Seconds of one input: such a picture takes seconds to decode, and with sanitizers on a busy machine a quarter of a minute.
declare -A longest=([image]=60)
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
"$root/tests/fuzz/make_corpus.sh" "$work"
findings=$root/build/fuzz/findings corpus=$work/new
((keep == 0)) || corpus=$root/build/fuzz/corpus
mkdir -p "$findings"
share=$((seconds / ${#targets[@]}))
((share > 0)) || share=1
begin=$SECONDS inputs=0 found=0
for target in "${targets[@]}"; do
  mkdir -p "$corpus/$target" "$work/$target"
  one=${limit[$target]:-256}
  code=0
  ASAN_OPTIONS=allocator_may_return_null=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    "$bin/fuzz_$target" -seed="$seed" -max_total_time="$share" -timeout="${longest[$target]:-10}" -malloc_limit_mb="$one" \
    -rss_limit_mb=$((2 * one + 1024)) -max_len=16384 -print_final_stats=1 -artifact_prefix="$findings/$target-" \
    "$corpus/$target" "$work/$target" > "$work/$target.log" 2>&1 || code=$?
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
  good=$(sed -n 's/^stat::accepted: *//p' "$work/$target.log")
  inputs=$((inputs + ${count:-0}))
  if ((code != 0)); then
    found=$((found + 1))
    tail -n 60 "$work/$target.log" >&2
    say "FINDING in $target; its input is kept in $findings"
  elif ((good == 0)); then
    found=$((found + 1))
    say "FINDING in $target: it refuses everything, so that it tests nothing"
  else
    say "$(printf '%-12s %9d inputs, %8d accepted, %s' "$target" "$count" "$good" \
      "$(sed -n 's/^#[0-9]*[[:space:]]*DONE *\(cov: [0-9]*\) *ft: [0-9]*.*/\1/p' "$work/$target.log")")"
  fi
done
echo "fuzz: ${#targets[@]} targets, $inputs inputs, $found findings, $((SECONDS - begin)) s, seed $seed"
((found == 0))
