#!/usr/bin/env bash
# scripts/fault-test.sh [--kills N] [--seconds S] [--seed X] [--program P] [--config FILE] [--keep]
#
# Does a killed run, started again, end with the bytes of an undisturbed one? Makes a reference on one rank. Then starts the
# same run on 1 to 4 ranks (drawn for every start), lets it work for a random time, and disturbs it: SIGKILL to one rank, SIGKILL
# to all, or SIGTERM or SIGUSR2 to all ranks. It is started again, on another number of ranks, until it ends by itself. Then all
# data files and evaluation.json are compared with the reference, and the next run begins in an empty store. Files that hold
# times (timing.json, manifest.json, the seconds of k-means' iterations) are left out.
#
#   --kills N     disturbances to make (default 10)
#   --seconds S   begin no further run this long after the undisturbed one has ended (default: no limit)
#   --seed X      of the random choices (default: drawn and printed)
#   --program P   default build/release/bin/moextract
#   --config F    default tests/app/fault.yaml; must take its folders from FAULT_STORE and FAULT_RUN
#   --keep        leave the folder of the runs behind, also when all is well
#   --help        this page
#
# Ends with one line that counts disturbances, resumes, runs compared, differences, hangs and wrong exit codes; exit code 1 if
# there is any of the last three, or if nothing was disturbed.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"

kills=10 seconds=0 seed=$RANDOM keep=0
program=$root/build/release/bin/moextract config=$root/tests/app/fault.yaml
while (($# > 0)); do
  case $1 in
    --help | -h)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --keep) keep=1 ;;
    --kills | --seconds | --seed | --program | --config)
      (($# > 1)) || die "$1 needs a value" 2
      declare "${1#--}=$2"
      shift
      ;;
    *) die "unknown argument $1; --help tells what there is" 2 ;;
  esac
  shift
done
[[ -x $program ]] || die "$program is not there: build it first, or name it by --program" 2

work=$(mktemp -d "${TMPDIR:-/tmp}/moextract-fault.XXXXXX")
mkdir "$work/mpi"
# Killed ranks leave Open MPI's files behind; here they go with the folder.
export OMPI_MCA_orte_tmpdir_base=$work/mpi OMPI_MCA_btl_vader_backing_directory=$work/mpi PMIX_MCA_gds=hash
RANDOM=$seed
declare -A in_stage
made=0 resumes=0 compared=0 differences=0 hangs=0 wrong=0
hang_after=60 # seconds that a disturbed job may take to end; a busy machine is slow, a hang is for ever

# start RANKS STORE LOG: starts the run in the background; job is its process.
start() {
  export FAULT_STORE=$2 FAULT_RUN=$2-run
  if (($1 == 1)); then
    "$program" run "$config" >"$3" 2>&1 &
  else
    "$root/tests/mpirun.sh" "$1" "$program" run "$config" >"$3" 2>&1 &
  fi
  job=$!
}

# Processes of the ranks: the job itself, or mpirun's children.
rank_processes() {
  if (($1 == 1)); then echo "$job"; else pgrep -P "$job"; fi
}

now() { date +%s%N; }

# Sleeps for $1 milliseconds or until the job ends.
work_for() {
  local until=$(($(now) + $1 * 1000000))
  while (($(now) < until)) && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
}

# Waits for the job, not for ever; code is how it ended.
finish_job() {
  local until=$((SECONDS + hang_after)) child
  while kill -0 "$job" 2>/dev/null && ((SECONDS < until)); do sleep 0.05; done
  if kill -0 "$job" 2>/dev/null; then
    hangs=$((hangs + 1))
    say "HANG: the job did not end within $hang_after s of $1 (its log: $2)"
    keep=1
    for child in $(pgrep -P "$job") "$job"; do kill -KILL "$child" 2>/dev/null; done
  fi
  wait "$job" 2>/dev/null
  code=$?
}

# Files of a store that must not depend on anything but the configuration.
data_files() {
  (cd "$1" && find . -path './.*' -prune -o -type f ! -name manifest.json ! -name DONE ! -name timing.json ! -name '*.iterations.jsonl' -print | sort)
}

compare_with_reference() {
  local file bad=0
  if ! diff <(data_files "$reference") <(data_files "$1") >"$work/files.diff"; then
    bad=1
    say "DIFFERENCE: other files than the undisturbed run:"
    cat "$work/files.diff" >&2
  fi
  while read -r file; do
    [[ -e $1/$file ]] || continue
    if ! cmp -s "$reference/$file" "$1/$file"; then
      bad=1
      say "DIFFERENCE: $1/$file"
    fi
  done < <(data_files "$reference")
  compared=$((compared + 1))
  if ((bad)); then
    differences=$((differences + 1)) keep=1
  else
    rm -rf "$1" "$1-run"
  fi
}

begin=$SECONDS
reference=$work/reference
start 1 "$reference" "$work/reference.log"
started=$(now)
wait "$job" || {
  code=$?
  cat "$work/reference.log" >&2
  rm -rf "$work"
  die "the undisturbed run failed with exit code $code" "$code"
}
length=$((($(now) - started) / 1000000))
limit_begin=$SECONDS
say "seed $seed; the undisturbed run took $length ms and left $(data_files "$reference" | wc -l) data files"

run=1 store=$work/run1 attempt=0
while ((made < kills)) || [[ -d $store ]]; do
  if [[ ! -d $store ]] && ((seconds > 0 && SECONDS - limit_begin > seconds)); then break; fi
  ranks=$((1 + RANDOM % 4)) attempt=$((attempt + 1)) log=$work/attempt$attempt.log
  [[ -d $store ]] && resumes=$((resumes + 1))
  start "$ranks" "$store" "$log"
  disturbed=none
  # With enough disturbances made, or out of time, the last run only has to end.
  if ((made < kills)) && ! ((seconds > 0 && SECONDS - limit_begin > seconds)); then
    work_for $((300 + (RANDOM * 32768 + RANDOM) % (length * 6 / 10 + 500)))
    mapfile -t processes < <(rank_processes "$ranks")
    if kill -0 "$job" 2>/dev/null && ((${#processes[@]} > 0)); then
      case $((RANDOM % 4)) in
        0)
          disturbed="SIGKILL to one of $ranks ranks"
          kill -KILL "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null
          ;;
        1)
          disturbed="SIGKILL to all of $ranks ranks"
          kill -KILL "$job" "${processes[@]}" 2>/dev/null
          ;;
        2)
          disturbed="SIGTERM to $ranks ranks"
          kill -TERM "${processes[@]}" 2>/dev/null
          ;;
        3)
          disturbed="SIGUSR2 to one of $ranks ranks"
          kill -USR2 "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null
          ;;
      esac
      made=$((made + 1))
      stage=$(grep -o '[a-z/-]*: begins' "$log" | tail -1)
      stage=${stage%: begins} stage=${stage:-start}
      in_stage[$stage]=$((${in_stage[$stage]:-0} + 1))
    fi
  fi
  # A machine on which the undisturbed run took long is a busy one: there a job takes longer to end, too.
  hang_after_now=$((60 + 2 * length / 1000))
  [[ $disturbed == none ]] && hang_after_now=$((600 + 10 * length / 1000))
  hang_after=$hang_after_now finish_job "$disturbed" "$log"
  if ((code == 0)); then
    compare_with_reference "$store"
    run=$((run + 1)) store=$work/run$run
    continue
  fi
  case $disturbed in
    *SIGKILL*) expected="not 0" ;; # mpirun tells of a killed rank by different codes
    *SIGTERM* | *SIGUSR2*) expected=75 ;;
    *) expected=0 ;;
  esac
  # A signal before the program has installed its handlers, or before the library has started, ends it in the usual way.
  if [[ $disturbed == *SIG[TU]* ]] && ! grep -q ' begins' "$log"; then expected="any"; fi
  if [[ $expected != any && $expected != "not 0" && $expected != "$code" ]]; then
    wrong=$((wrong + 1)) keep=1
    say "EXIT CODE $code instead of $expected after $disturbed; the end of $log:"
    tail -n 5 "$log" >&2
    [[ $disturbed == none ]] && break # it would fail again and again
  fi
done

stages=""
for stage in $(printf '%s\n' "${!in_stage[@]}" | sort); do stages+=" $stage ${in_stage[$stage]}"; done
say "disturbed in stage:$stages"
if ((keep)); then say "the runs' folder is kept: $work"; else rm -rf "$work"; fi
echo "fault-test: $made kills, $resumes resumes, $compared runs compared, $differences differences, $hangs hangs, \
$wrong wrong exit codes, $((SECONDS - begin)) s, seed $seed"
((differences == 0 && hangs == 0 && wrong == 0 && compared > 0 && (made > 0 || kills == 0)))
