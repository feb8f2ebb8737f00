#!/usr/bin/env bash
# slurm/job.sbatch as Slurm would start it, with stand-ins for srun, scontrol and the program: when it goes on, when it
# gives up, what it leaves for `sweep status`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/bin"
cat > "$work/bin/srun" << 'EOF_SRUN'
#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
EOF_SRUN
cat > "$work/bin/scontrol" << EOF_SCONTROL
#!/bin/sh
echo "\$@" >> "$work/requeued"
exec kill -KILL \$PPID
EOF_SCONTROL
# The program says what it was called with, counts up if it is to make progress, and leaves with the code it is told.
cat > "$work/bin/moextract" << EOF_PROGRAM
#!/bin/sh
if [ "\$1" = status ]; then cat "$work/finished"; exit; fi
echo "called: \$*"
[ ! -e "$work/progress" ] || echo x >> "$work/finished"
exit \$(cat "$work/code")
EOF_PROGRAM
chmod +x "$work"/bin/*
export PATH=$work/bin:$PATH SLURM_JOB_ID=12 MOEXTRACT_STATE=$work/state MOEXTRACT_TRIES=3
script=$root/slurm/job.sbatch

fresh() { # CODE
  rm -rf "$work/state" "$work/requeued" "$work/progress"
  echo "$1" > "$work/code"
  echo begun > "$work/finished"
}
starts() { wc -l < "$work/requeued"; }

fresh 0
run 0 "$script" run a.yaml --set "x=two words"
expect_output "called: run a.yaml --set x=two words"
expect_output "job 12: done"
expect_no_file "$work/requeued"

# Killed by its requeueing, as by Slurm: 137.
fresh 75
touch "$work/progress"
for ((i = 0; i < 5; ++i)); do
  run 137 "$script" run a.yaml
  expect_output "goes on in another start"
done
[[ $(starts) == 5 ]] || failed "with progress it goes on for ever: $(starts) starts"
grep -q '^requeue 12$' "$work/requeued" || failed "it requeues itself by its number"
rm "$work/progress"
echo 0 > "$work/code"
run 0 "$script" run a.yaml
expect_no_file "$work/state/tries"

fresh 75
run 137 "$script" run a.yaml
run 137 "$script" run a.yaml
run 75 "$script" run a.yaml
expect_output "gives up: nothing was finished in 3 starts in a row"
[[ $(starts) == 2 ]] || failed "$(starts) requeues instead of 2"

# A node that fails leaves no time to count: the next start does.
fresh 75
mkdir "$work/dead"
echo "kill -KILL \$PPID" > "$work/dead/srun"
chmod +x "$work/dead/srun"
for ((i = 0; i < 3; ++i)); do run 137 env PATH="$work/dead:$PATH" "$script" run a.yaml; done
run 1 "$script" run a.yaml
expect_output "gives up"

for code in 9 137; do
  fresh "$code"
  run 137 "$script" run a.yaml
  expect_output "exit code $code: goes on in another start"
done
fresh 4
run 4 "$script" run a.yaml
expect_output "failed with exit code 4"
expect_no_file "$work/requeued"

fresh 75
mkdir "$work/state"
touch "$work/state/cancelled"
run 75 "$script" run a.yaml
expect_output "cancelled"
expect_no_file "$work/requeued"

# As an array of a sweep: the block of settings as the program writes it.
sweep=$work/sweep
mkdir -p "$sweep"/{logs,state}
printf 'collect-1\t/c/run-1.yaml\ttrain,collect\t-\nrun-1\t/c/run-1.yaml\t-\tcollect-1\n' > "$work/tasks"
awk -v tasks="tasks=$work/tasks" -v folder="folder=$sweep" '
  /^tasks=/ { print tasks; next } /^folder=/ { print folder; next } { print }' "$script" > "$work/array.sbatch"
array() { # CODE INDEX
  run "$1" env SLURM_ARRAY_TASK_ID="$2" bash "$work/array.sbatch"
}
fresh 6
array 6 0
[[ $(< "$sweep/state/collect-1.exit") == 6 ]] || failed "the exit code is not left"
grep -q 'called: run /c/run-1.yaml --stage=train --stage=collect' "$sweep/logs/collect-1.log" || failed "not the stages alone"
array 1 1
grep -q 'not started: collect-1 failed with exit code 6' "$sweep/logs/run-1.log" || failed "it starts without what it needs"
expect_no_file "$sweep/state/run-1.exit"
fresh 0
array 0 0
array 0 1
[[ $(< "$sweep/state/run-1.exit") == 0 ]] || failed "no exit code of a run that is done"
grep -q 'called: run /c/run-1.yaml$' "$sweep/logs/run-1.log" || failed "the run is not called"
touch "$sweep/state/cancelled"
fresh 75
array 75 1
grep -q 'cancelled' "$sweep/logs/run-1.log" || failed "a cancelled sweep goes on"
array 2 2
expect_output "no line 3"
finish
