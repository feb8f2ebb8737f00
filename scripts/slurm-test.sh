#!/usr/bin/env bash
# scripts/slurm-test.sh [--program FILE] [--keep] [CASE...]: runs as jobs on two real Slurm hosts on this machine.
#
# The hosts are network namespaces, each with a slurmd, its own folder /tmp and shared memory; the packages slurm-wlm,
# munge and iproute2 and root are needed; without them it says so and ends with 77. Where a case finishes a run, its
# artefacts have to equal those of a run without Slurm, byte for byte but for measured times. All cases take about
# ten minutes on two busy cores.
#
#   doctor     doctor --slurm, and what is refused
#   submit     one run over both hosts
#   limit      a time limit too short for the run: it saves, requeues itself, goes on
#   signal     moextract cancel: it saves and leaves; submitted again it goes on
#   preempt    a job of more importance takes the hosts: it saves, waits, goes on
#   host       a host dies under the job: Slurm requeues it, it goes on
#   tries      a job that dies at once gives up after its number of tries
#   sweep      a sweep as arrays larger than the cluster allows, with shared stages first
#
#   --program FILE   default: build/release/bin/moextract
#   --keep           leave the folder with all logs (below /var/tmp), and say where
#   --help           this text
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/slurm_hosts.sh"

program=$root/build/release/bin/moextract
keep=0
cases=()
while (($# > 0)); do
  case $1 in
    --program)
      (($# >= 2)) || die "--program needs a file" 2
      program=$2
      shift
      ;;
    --keep) keep=1 ;;
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    doctor | submit | limit | signal | preempt | host | tries | sweep) cases+=("$1") ;;
    *) die "unknown argument '$1'; see --help" 2 ;;
  esac
  shift
done
((${#cases[@]} > 0)) || cases=(doctor submit limit signal preempt host tries sweep)

missing=$(slurm_missing)
if [[ -n $missing ]]; then
  echo "SKIPPED: $missing"
  exit 77
fi
images=${MOEXTRACT_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
if [[ ! -e $images/t10k-images-idx3-ubyte.gz ]]; then
  echo "SKIPPED: no Fashion-MNIST in $images (MOEXTRACT_FASHION_MNIST)"
  exit 77
fi
[[ -x $program ]] || die "$program is not built: scripts/build.sh release --target moextract" 2
program=$(readlink -f "$program")

# Each host has its own /tmp; libraries of the program that lie there stay visible.
while read -r library; do
  library=$(readlink -f "$library")
  [[ $library == /tmp/* ]] || continue
  folder=$(cut -d/ -f1-3 <<< "$library")
  [[ " ${slurm_keep[*]} " == *" $folder "* ]] || slurm_keep+=("$folder")
done < <(ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p')

work=$(mktemp -d /var/tmp/moextract-slurm-test.XXXXXX)
finish() {
  slurm_stop
  if ((keep)); then say "the logs are in $work"; else rm -rf "$work"; fi
}
trap finish EXIT
log=$work/log

complain() {
  say "FAILED: $*"
  say "--- what was said last:"
  tail -n 40 "$log" >&2
  keep=1
  exit 1
}
expect() { # CODE COMMAND...
  local wanted=$1 code=0
  shift
  timeout --kill-after=10 300 "$@" > "$log" 2>&1 || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: $*"
}
moextract() { # CODE ARGUMENTS...: on the login node
  local wanted=$1
  shift
  local code=0
  on_cluster timeout --kill-after=10 300 "$program" "$@" > "$log" 2>&1 || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: moextract $*"
}
says() { grep -qE -- "$1" "$log" || complain "the log does not say: $1"; }
said_in() { grep -qE -- "$2" "$1" || { cp "$1" "$log"; complain "$1 does not say: $2"; }; }
# wait_until SECONDS COMMAND...
wait_until() {
  local i limit=$1
  shift
  for ((i = 0; i < limit * 4; ++i)); do
    "$@" && return
    sleep 0.25
  done
  [[ ! -e $job_log ]] || cp "$job_log" "$log"
  complain "waited $limit s in vain for: $*"
}
queue_is_empty() { [[ -z $(on_cluster squeue --noheader 2> /dev/null) ]]; }
host_is_down() { [[ $(on_cluster sinfo --noheader --nodes=n2 --format=%t 2> /dev/null) == down* ]]; }
log_says() { grep -qsE -- "$1" "$job_log"; }
begin_case() { # NAME
  say "== $1"
  export FAULT_STORE=$work/$1/store FAULT_RUN=$work/$1/run
  job_log=$FAULT_RUN.slurm/log
  mkdir -p "$work/$1"
}
# The artefacts of this case are those of the local run.
same_as_local() { # REFERENCE
  diff -r -x .runs -x .watch -x manifest.json -x DONE -x timing.json -x '*.iterations.jsonl' "$1" "$FAULT_STORE" > "$log" ||
    complain "the artefacts differ from those of a run without Slurm"
}

cp "$root/tests/app/fault.yaml" "$root/tests/app/sweep.yaml" "$work"
# A training of some seconds, so that what is done to it meets it on fast machines too.
sed -i 's/^  steps: 60$/  steps: 240/' "$work/fault.yaml"
grep -q '^  steps: 240$' "$work/fault.yaml" || die "tests/app/fault.yaml does not train 60 steps"
config=$work/fault.yaml
cat > "$work/site.yaml" << EOF_SITE
time: "00:30:00"
cores_per_node: 2
sockets_per_node: 2
cpu_bind: ""
# Tasks of one host talk by TCP as those of two do: what is tested is the path between hosts.
preamble:
  - export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_mpi_yield_when_idle=1
EOF_SITE
export MOEXTRACT_SITE=$work/site.yaml

say "== reference: the same run without Slurm"
FAULT_STORE=$work/reference FAULT_RUN=$work/reference-run expect 0 "$program" run "$config"
say "== two hosts"
slurm_start "$work/slurm" || die "Slurm did not start; see $work/slurm"

both=(--nodes 2 --tasks-per-node 2)
for name in "${cases[@]}"; do
  begin_case "$name"
  case $name in
    doctor)
      moextract 0 doctor --slurm
      says "^test\* +2 +2 "
      says "srun --mpi .*pmix"
      says "can be submitted"
      moextract 0 doctor --slurm "$config" "${both[@]}"
      says "fault.yaml can be submitted"
      moextract 9 doctor --slurm --nodes 3
      says "problem: 3 nodes are more than the 2 of partition test"
      moextract 9 doctor --slurm --memory 900G
      says "problem: sbatch would refuse the job: "
      sed 's/^time:.*/time: "02:00:00"/' "$work/site.yaml" > "$work/long.yaml"
      moextract 9 doctor --slurm --site "$work/long.yaml"
      says "problem: time 02:00:00 is more than partition test allows"
      moextract 9 submit "$config" --partition tset
      says "sbatch refused .*invalid partition specified: tset;.*; this cluster has test, urgent: did you mean test\?"
      moextract 4 logs "$config"
      says "was not submitted"
      expect 9 env PATH=/nowhere "$program" submit "$config"
      says "has no Slurm"
      ;;
    submit)
      moextract 0 submit "$config" "${both[@]}"
      moextract 8 submit "$config" "${both[@]}"
      says "is in the queue already"
      wait_until 20 log_says "train: begins"
      moextract 0 status "$config"
      says "^job [0-9]+: RUNNING on n\[1-2\]"
      wait_until 120 queue_is_empty
      said_in "$job_log" "job [0-9]+: done"
      moextract 0 logs "$config"
      says "run: 4 ranks of 1 thread on"
      moextract 0 status "$config"
      says "no longer in the queue"
      says "evaluate/experts +done"
      for host in n1 n2; do said_in "$(find "$FAULT_STORE" -path '*collect-*/manifest.json')" "\"$host\""; done
      same_as_local "$work/reference"
      ;;
    limit)
      # One minute. Slurm looks at the limits every half a minute and so warns at any time up to the end of the warning,
      # even before a rank is there; the run itself ends half a minute before the limit, for its margin is at most half of
      # what is left when it starts. The training needs more than that: how many steps it takes is measured, at least 30
      # seconds without Slurm, where two threads have the cores to themselves.
      sed 's/^time:.*/time: "00:01:00"\nwarning: 45/' "$work/site.yaml" > "$work/short.yaml"
      steps=600
      while true; do
        long=(--set "train.steps=$steps")
        rm -rf "$work/long-reference" "$work/long-run"
        began=$(date +%s%N)
        FAULT_STORE=$work/long-reference FAULT_RUN=$work/long-run expect 0 "$program" train "$config" "${long[@]}" --set run.threads=2
        took=$((($(date +%s%N) - began) / 1000000))
        ((took < 30000)) || break
        # A third more than the pace says, so that one more try is enough.
        steps=$((steps * 40000 / took + 1))
      done
      moextract 0 submit "$config" "${long[@]}" --set run.stop_before_end=40 --site "$work/short.yaml" "${both[@]}"
      # A start has some ten seconds for work, and a slow machine needs many.
      wait_until $((300 + took / 100)) queue_is_empty
      said_in "$job_log" "interrupted"
      said_in "$job_log" "exit code 75: goes on in another start"
      said_in "$job_log" "train: resumed from step"
      said_in "$job_log" "job [0-9]+: done"
      diff -r -x manifest.json -x DONE "$work/long-reference"/train-* "$FAULT_STORE"/train-* > "$log" || complain "the training differs"
      # Without any warning: no machine trains that many steps in the seconds that are left.
      sed 's/^warning:.*/warning: 0/' "$work/short.yaml" > "$work/silent.yaml"
      export FAULT_RUN=$work/limit/silent
      job_log=$FAULT_RUN.slurm/log
      moextract 0 submit "$config" --set train.steps=1000000 --set run.stop_before_end=45 --site "$work/silent.yaml" "${both[@]}"
      wait_until 60 log_says "interrupted \(the end of the job's time is near\)"
      moextract 0 cancel "$config" --now
      wait_until 60 queue_is_empty
      ;;
    signal)
      moextract 0 submit "$config" "${both[@]}"
      wait_until 20 log_says "train: begins"
      moextract 0 cancel "$config"
      says "asked to save and leave"
      wait_until 30 queue_is_empty
      said_in "$job_log" "cancelled; what is finished is kept"
      moextract 0 cancel "$config"
      says "no job of this run is in the queue"
      moextract 0 submit "$config" --nodes 1 --tasks-per-node 1
      wait_until 120 queue_is_empty
      said_in "$job_log" "job [0-9]+: done"
      same_as_local "$work/reference"
      ;;
    preempt)
      moextract 0 submit "$config" "${both[@]}"
      wait_until 20 log_says "train: begins"
      on_cluster sbatch --partition=urgent --nodes=2 --ntasks-per-node=2 --output=/dev/null --wrap="sleep 3" > "$log" 2>&1 ||
        complain "the urgent job was refused"
      wait_until 60 log_says "start 2 on"
      wait_until 120 queue_is_empty
      said_in "$job_log" "interrupted"
      said_in "$job_log" "job [0-9]+: done"
      same_as_local "$work/reference"
      ;;
    host)
      moextract 0 submit "$config" "${both[@]}"
      wait_until 20 log_says "train: begins"
      slurm_kill_host 2 2> /dev/null
      # It comes back when the controller has found out, as a host that is started again does.
      wait_until 90 host_is_down
      slurm_start_host 2
      wait_until 240 queue_is_empty
      said_in "$job_log" "start 2 on"
      said_in "$job_log" "job [0-9]+: done"
      same_as_local "$work/reference"
      ;;
    tries)
      printf '#!/bin/sh\nexit 75\n' > "$work/dies"
      chmod +x "$work/dies"
      sed "s|^time:.*|time: \"00:30:00\"\nlauncher: $work/dies|" "$work/site.yaml" > "$work/dies.yaml"
      moextract 0 submit "$config" --site "$work/dies.yaml" --tries 3
      wait_until 90 queue_is_empty
      said_in "$job_log" "gives up: nothing was finished in 3 starts in a row"
      starts=$(grep -cE ': start [0-9]+ on' "$job_log")
      ((starts == 3)) || complain "$starts starts instead of 3"
      ;;
    sweep)
      FAULT_STORE=$work/sweep-reference FAULT_RUN=$work/sweep-reference-run expect 0 "$program" sweep "$work/sweep.yaml" run
      # The cluster's arrays have three elements at most, the sweep has four runs.
      moextract 0 sweep "$work/sweep.yaml" submit
      says "the runs"
      moextract 8 sweep "$work/sweep.yaml" submit
      says "in the queue already"
      moextract 0 sweep "$work/sweep.yaml" status
      wait_until 240 queue_is_empty
      moextract 0 sweep "$work/sweep.yaml" status
      says "^4 done"
      moextract 0 sweep "$work/sweep.yaml" submit
      says "All 4 runs were already done"
      moextract 0 sweep "$work/sweep.yaml" collect
      says "Pareto front"
      [[ $(cat "$FAULT_RUN"/logs/*.log | grep -cE " collect: begins") == 1 ]] || complain "collect was not made once"
      same_as_local "$work/sweep-reference"
      ;;
  esac
done
say "all cases as expected: ${cases[*]}, $(duration $SECONDS)"
