#!/usr/bin/env bash
# sweep_cases.sh CASE PROGRAM: one course of a small sweep (sweep.yaml) with the whole program.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case_name=$1 program=$2

images=${MOEXTRACT_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
if [[ ! -e $images/t10k-images-idx3-ubyte.gz ]]; then
  echo "skipped: no Fashion-MNIST in $images (MOEXTRACT_FASHION_MNIST)"
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FAULT_STORE=$work/store FAULT_RUN=$work/sweep
cp "$here/fault.yaml" "$here/sweep.yaml" "$work"
sweep=$work/sweep.yaml
log=$work/log

complain() {
  echo "$*"
  echo "--- the log:"
  tail -n 60 "$log"
  exit 1
}
# expect CODE COMMAND...: runs it, output to the log.
expect() {
  local wanted=$1 code=0
  shift
  timeout --kill-after=10 900 "$@" >"$log" 2>&1 || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: $*"
}
says() { grep -qE -- "$1" "$log" || complain "the log does not say: $1"; }
never_says() { ! grep -qE -- "$1" "$log" || complain "the log says: $1"; }
# made STAGE: how often it was begun, over all processes of the sweep.
made() { cat "$FAULT_RUN"/logs/*.log 2>/dev/null | grep -cE " $1: begins"; }
made_is() { [[ $(made "$1") == "$2" ]] || complain "$1 was made $(made "$1") times instead of $2"; }
lines_of() { wc -l <"$1"; }

case $case_name in
  whole)
    expect 0 "$program" sweep "$sweep" plan
    says "^sweep small: 4 runs of .*fault.yaml"
    says "^4 to do"
    says "^collect +4 +1 +0 +1"
    says "^cluster +4 +2 +0 +2"
    says "3 processes for shared ones, 4 for runs"
    [[ ! -e $FAULT_RUN && ! -e $FAULT_STORE ]] || complain "plan has written something"
    expect 4 "$program" sweep "$sweep" collect
    says "no run is done yet"
    expect 0 "$program" sweep "$sweep" run
    says "4 runs: 4 done now, 0 before, 0 failed, 0 left"
    # Each shared stage once, whatever ran side by side, and no process waited for another one's lock.
    made_is train 1
    made_is collect 1
    made_is cluster 2
    made_is "finetune/experts" 4
    ! grep -q "waiting for it" "$FAULT_RUN"/logs/*.log || complain "a run waited for a lock"
    expect 0 "$program" sweep "$sweep" run
    says "All 4 runs were already done"
    expect 0 "$program" sweep "$sweep" status
    says "^4 done"
    expect 0 "$program" sweep "$sweep" plan
    says "cost: nothing"
    expect 0 "$program" sweep "$sweep" collect
    says "Pareto front"
    [[ $(lines_of "$FAULT_RUN/results.csv") == 9 ]] || complain "results.csv: 4 runs of 2 methods and the head are expected"
    head -n 1 "$FAULT_RUN/results.csv" | grep -q '^run,method,cluster.k,finetune.learning_rate,dense_top1,top1,' ||
      complain "results.csv has another head"
    grep -q "All runs" "$FAULT_RUN/results.html" || complain "results.html lacks its table"
    # The same configuration, run by itself, finds all that the sweep made.
    run=$(find "$FAULT_RUN/configs" -name 'run-*.yaml' | head -n 1)
    expect 0 "$program" run "$run"
    says "All stages were already done"
    ;;
  edited)
    # A changed key makes again what depends on it, and nothing else.
    sed -i 's/\[2, 3\]/[2]/; s/\[1e-4, 5e-4\]/[1e-4]/' "$sweep"
    expect 0 "$program" sweep "$sweep" run
    sed -i 's/\[1e-4\]/[1e-4, 2e-4]/' "$sweep"
    expect 0 "$program" sweep "$sweep" status
    says "^1 done, 1 to do"
    expect 0 "$program" sweep "$sweep" run
    says "2 runs: 1 done now, 1 before"
    made_is cluster 1
    made_is "finetune/experts" 2
    # Edited while it runs: the plan of the start is carried out, and it is said.
    sed -i 's/\[1e-4, 2e-4\]/[3e-4]/' "$sweep"
    "$program" sweep "$sweep" run >"$work/log2" 2>&1 &
    job=$!
    for ((i = 0; i < 600; ++i)); do
      grep -q " begins" "$work/log2" && break
      sleep 0.05
    done
    sed -i 's/\[3e-4\]/[4e-4]/' "$sweep"
    wait "$job" || complain "the edited sweep failed: $(cat "$work/log2")"
    grep -q "was changed meanwhile" "$work/log2" || complain "the change was not noticed: $(cat "$work/log2")"
    ;;
  failed)
    # One value that only the run itself finds out to be impossible: more clusters than rows.
    sed -i 's/\[2, 3\]/[2, 7000]/; s/\[1e-4, 5e-4\]/[1e-4]/' "$sweep"
    expect 4 "$program" sweep "$sweep" run || true
    says "1 of 2 runs failed; the first cause: run-[0-9a-f]{10} \(cluster.k=7000\): "
    says "2 runs: 1 done now, 0 before, 1 failed, 0 left"
    expect 0 "$program" sweep "$sweep" status
    says "^1 done, 1 failed"
    says "failed +cluster.k=7000"
    says "different rows"
    expect 0 "$program" sweep "$sweep" collect
    says "^1 done, 1 failed"
    expect 4 "$program" sweep "$sweep" run
    says "2 runs: 0 done now, 1 before, 1 failed"
    made_is collect 1
    ;;
  stopped)
    "$program" sweep "$sweep" run >"$log" 2>&1 &
    job=$!
    for ((i = 0; i < 1200; ++i)); do
      grep -qs "train: begins" "$FAULT_RUN"/logs/*.log && break
      sleep 0.05
    done
    # A second process at the same time is told so.
    code=0
    "$program" sweep "$sweep" run >"$work/log2" 2>&1 || code=$?
    ((code == 8)) || complain "exit code $code instead of 8 for a second process: $(cat "$work/log2")"
    grep -q "is running this sweep" "$work/log2" || complain "it is not said: $(cat "$work/log2")"
    kill -TERM "$job"
    code=0
    wait "$job" || code=$?
    ((code == 75)) || complain "exit code $code instead of 75"
    says "Run the same command again to go on"
    expect 0 "$program" sweep "$sweep" run
    says "4 runs: 4 done now"
    grep -qs "train: resumed from step\|train: begins" "$FAULT_RUN"/logs/*.log || complain "the training did not go on"
    ;;
  refused)
    expect 3 "$program" sweep "$work/swep.yaml" plan
    says "swep.yaml: no such file; did you mean .*sweep.yaml"
    cp "$sweep" "$work/other.yaml"
    "$program" sweep "$sweep" run --jobs 1 >/dev/null 2>&1 &
    job=$!
    for ((i = 0; i < 600; ++i)); do
      [[ -e $FAULT_RUN/sweep.json ]] && break
      sleep 0.05
    done
    kill -TERM "$job"
    wait "$job"
    expect 8 "$program" sweep "$work/other.yaml" run
    says "holds the sweep of $sweep"
    expect 8 "$program" sweep "$work/other.yaml" status
    sed -i 's/cluster.k/cluster.kk/' "$sweep"
    expect 3 "$program" sweep "$sweep" plan
    says "sweep.yaml:[0-9]+:3: cluster.kk: no such key; did you mean cluster.k\?"
    expect 2 "$program" sweep "$sweep" walk
    expect 2 "$here/../mpirun.sh" 2 "$program" sweep "$work/other.yaml" run
    says "without mpirun or srun"
    ;;
  *)
    echo "no case $case_name"
    exit 2
    ;;
esac
echo "$case_name: as expected"
