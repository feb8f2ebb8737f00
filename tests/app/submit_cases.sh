#!/usr/bin/env bash
# submit_cases.sh PROGRAM: every option of `moextract submit`, and what is refused, with stand-ins for Slurm's programs. The
# real ones are in scripts/slurm-test.sh.
# shellcheck disable=SC2016  # expanded by the stand-ins
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$1

images=${MOEXTRACT_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
if [[ ! -e $images/t10k-images-idx3-ubyte.gz ]]; then
  echo "SKIPPED: no Fashion-MNIST in $images (MOEXTRACT_FASHION_MNIST)"
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FAULT_STORE=$work/store FAULT_RUN=$work/run MOEXTRACT_SITE=''
config=$here/fault.yaml log=$work/log
cp "$here/fault.yaml" "$here/sweep.yaml" "$work"

complain() {
  echo "$*"
  echo "--- what was said:"
  tail -n 60 "$log"
  exit 1
}
# expect CODE ARGUMENTS...: of the program, with the stand-ins.
expect() {
  local wanted=$1 code=0
  shift
  PATH=$work/bin:$PATH timeout --kill-after=10 100 "$program" "$@" >"$log" 2>&1 </dev/null || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: moextract $*"
}
says() { grep -qE -- "$1" "$log" || complain "it does not say: $1"; }
never_says() { ! grep -qE -- "$1" "$log" || complain "it says: $1"; }
lines() { [[ $(grep -cE -- "$1" "$log") == "$2" ]] || complain "not $2 times: $1"; }

mkdir "$work/bin"
stand_in() { # NAME TEXT
  printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}
{
  stand_in sbatch '[ "$1" != --version ] || exit 0
echo "$2" >> "'"$work"'/submitted"
wc -l < "'"$work"'/submitted"'
  stand_in squeue 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
  stand_in sinfo 'echo "gpu*|4|64|2-00:00:00|gpu:h200:8"; echo "cpu|10|128|infinite|(null)"'
  stand_in scontrol 'echo "MaxArraySize            = 3"'
  stand_in scancel 'echo "$*" >> "'"$work"'/cancelled"'
}
cat >"$work/site.yaml" <<'EOF_SITE'
partition: gpu
cpu_partition: cpu
account: physics
qos: long
gpu_type: h200
gpus_per_node: 8
sockets_per_node: 2
cores_per_node: 64
memory: 500G
time: "02:00:00"
warning: 300
tries: 5
launcher: srun --mpi=pmix_v4
cpu_bind: sockets
preamble:
  - module load openmpi
container_command: apptainer exec --bind /data
sbatch_options: [--constraint=ib]
EOF_SITE

# All that the site file says, and nothing submitted.
expect 0 submit "$config" --print --site "$work/site.yaml"
for line in '#SBATCH --nodes=1' '#SBATCH --ntasks-per-node=8' '#SBATCH --cpus-per-task=8' '#SBATCH --gpus-per-node=h200:8' \
  '#SBATCH --mem=500G' '#SBATCH --time=02:00:00' '#SBATCH --partition=gpu' '#SBATCH --account=physics' '#SBATCH --qos=long' \
  '#SBATCH --signal=USR2@300' '#SBATCH --open-mode=append' '#SBATCH --requeue' '#SBATCH --constraint=ib' \
  'module load openmpi' 'launcher=\(srun --mpi=pmix_v4 --cpu-bind=sockets\)' 'tries=5'; do
  says "^$line$"
done
never_says '--dependency'
[[ ! -e $work/submitted && ! -e $work/run.slurm && ! -e $work/run ]] || complain "--print has left something"

# The command line goes before it.
expect 0 submit "$config" --set "cluster.k=3" --print --site "$work/site.yaml" --nodes 4 --gpus-per-node 4 --cpus-per-task 6 --time 1-00:00:00 \
  --partition other --account chemistry --qos short --memory 100G --tries 7 --dependency afterok:12 --container docker://image
for line in '#SBATCH --nodes=4' '#SBATCH --ntasks-per-node=4' '#SBATCH --cpus-per-task=6' '#SBATCH --gpus-per-node=h200:4' \
  '#SBATCH --mem=100G' '#SBATCH --time=1-00:00:00' '#SBATCH --partition=other' '#SBATCH --account=chemistry' \
  '#SBATCH --qos=short' '#SBATCH --dependency=afterok:12' 'tries=7' \
  'program=\(apptainer exec --bind /data docker://image moextract\)' 'arguments=\(run .*fault.yaml --set cluster.k=3 --set run.device=cuda\)'; do
  says "^$line$"
done
# What the configuration says of the device stands, and without GPUs there is nothing to say.
expect 0 submit "$config" --set run.device=cpu --print --site "$work/site.yaml"
says '^arguments=\(run .*fault.yaml --set run.device=cpu\)$'
expect 0 submit "$config" --print --site "$work/site.yaml" --gpus-per-node 0
says '^arguments=\(run .*fault.yaml\)$'
expect 0 submit "$config" --print --site "$work/site.yaml" --tasks-per-node 2
says '^#SBATCH --ntasks-per-node=2$'
says '^#SBATCH --cpus-per-task=32$'

# A job for each stage; what needs no GPU asks for none and goes to the partition for that.
expect 0 submit "$config" --print --site "$work/site.yaml" --per-stage
lines '^#SBATCH --job-name=' 7
lines '^#SBATCH --partition=cpu$' 2
lines '^#SBATCH --partition=gpu$' 5
lines '^#SBATCH --gpus-per-node=h200:8$' 5
expect 0 submit "$config" --site "$work/site.yaml" --per-stage --dependency afterany:99
lines '^job [1-7]: ' 7
[[ $(cat "$work"/run.slurm/*.sbatch | grep -c '^#SBATCH --dependency=afterok:') == 6 ]] || complain "not each waits for the one before"
grep -q '^#SBATCH --dependency=afterany:99$' "$work/run.slurm/train.sbatch" || complain "the first does not wait for 99"

# Each job's command is one of the program's; fitted experts have a stage more.
expect 0 submit "$(dirname "${BASH_SOURCE[0]}")/fault-fitted.yaml" --print --site "$work/site.yaml" --per-stage
lines '^#SBATCH --job-name=' 8
says '^arguments=\(moments '
while read -r stage; do
  "$program" "$stage" --help > /dev/null || complain "there is no command $stage"
done < <(sed -n 's/^arguments=(\([a-z]*\) .*/\1/p' "$log")

# As many nodes as there are free.
expect 0 submit "$config" --print --site "$work/site.yaml" --nodes 2-8
says '^#SBATCH --nodes=2-8$'
for wrong in 0 8-2 2- x; do
  expect 2 submit "$config" --print --site "$work/site.yaml" --nodes "$wrong"
  says "--nodes $wrong: expected a number"
done

# What happens to the jobs is asked of squeue.
stand_in squeue 'echo "3|PENDING|Dependency||0:00|2:00:00"; echo "2|RUNNING|None|n1|0:10|2:00:00"'
expect 0 status "$config"
says '^job 2: RUNNING on n1, 0:10 of 2:00:00$'
says '^job 3: PENDING \(Dependency\)'
expect 8 submit "$config" --site "$work/site.yaml"
says 'job 3: .* is in the queue already; moextract cancel .* takes it away'
expect 0 cancel "$config"
says 'job 2: asked to save and leave'
says 'job 3: cancelled|job 3: asked'
expect 0 logs "$config"
says 'nothing was said yet'
stand_in squeue 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1'
expect 0 status "$config"
says '^job 7: squeue: Unable to contact slurm controller'
expect 9 submit "$config" --site "$work/site.yaml"
says 'Whether jobs of this run are in the queue is not known'
stand_in squeue 'exit 0'

# Refused, each with what to do; nothing submitted.
rm -f "$work/submitted"
expect 2 submit "$config" --time 4h
says "--time 4h: expected hours:minutes:seconds"
expect 2 submit "$config" --site "$work/site.yaml" --time 00:05:00
says "not more than the 300 seconds that the job gets to save"
expect 3 submit "$config" --site "$work/siet.yaml"
says "siet.yaml: no such file; did you mean .*site.yaml"
sed 's/^partition:/partitoin:/' "$work/site.yaml" >"$work/wrong.yaml"
expect 3 submit "$config" --site "$work/wrong.yaml"
says "wrong.yaml:1:1: partitoin: no such key; did you mean partition"
expect 3 submit "$config" --set cluster.kk=3
says "cluster.kk=3: no such key; did you mean cluster.k"
expect 4 submit "$config" --set data.validation.source="$work/gone-idx3-ubyte.gz"
says "gone-idx3-ubyte.gz"
expect 2 submit "$config" --nodes 0
[[ ! -e $work/submitted ]] || complain "something was submitted"
stand_in sbatch '[ "$1" != --version ] || exit 0
echo "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified" >&2; exit 1'
expect 9 submit "$config"
says "sbatch refused .*run.sbatch: Batch job submission failed: Invalid account"
stand_in sbatch '[ "$1" != --version ] || exit 0
echo "sbatch: error: invalid partition specified: cpus" >&2; exit 1'
expect 9 submit "$config" --partition cpus
says "this cluster has gpu, cpu: did you mean cpu\?"

# A sweep whose second array is refused: what was submitted is named, nothing is lost.
export FAULT_RUN=$work/sweep
stand_in sbatch '[ "$1" != --version ] || exit 0
[ ! -e "'"$work"'/one" ] || { echo "sbatch: error: Job violates accounting/QOS policy" >&2; exit 1; }
touch "'"$work"'/one"; echo 21'
expect 9 sweep "$work/sweep.yaml" submit
says "Job violates accounting/QOS policy.* 1 arrays were submitted before and stay in the queue"
grep -q '^21 ' "$work/sweep/slurm/jobs" || complain "the array that was submitted is forgotten"
stand_in squeue 'echo "21_0|RUNNING|None|n1|0:10|2:00:00"'
expect 8 sweep "$work/sweep.yaml" submit
says "jobs of this sweep are in the queue already, job 21_0 among them"
expect 0 sweep "$work/sweep.yaml" cancel
says "1 jobs were asked to save and leave"

# No Slurm: the script is shown all the same.
rm "$work"/bin/*
code=0
PATH=/nowhere "$program" submit "$config" >"$log" 2>&1 || code=$?
((code == 9)) || complain "exit code $code instead of 9 without Slurm"
says "this machine has no Slurm .* --print shows the script alone"
code=0
PATH=/nowhere "$program" sweep "$work/sweep.yaml" submit >"$log" 2>&1 || code=$?
((code == 9)) || complain "exit code $code instead of 9 for a sweep without Slurm"
says "this machine has no Slurm"
PATH=/nowhere "$program" submit "$config" --print >"$log" 2>&1 || complain "--print needs no Slurm"
says '^#SBATCH --nodes=1$'
echo "submit: as expected"
