#!/usr/bin/env bash
# fault_cases.sh CASE PROGRAM: one fault done to a small run (fault.yaml); asserts exit code and message.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case_name=$1 program=$2
mpirun=$here/../mpirun.sh config=$here/fault.yaml

# Mounts of a case are seen by this process and its children alone.
if [[ $case_name == full_disk || ($case_name == read_only && $(id -u) == 0) ]] && [[ -z ${FAULT_INSIDE:-} ]]; then
  if [[ $(id -u) != 0 ]] || ! unshare -m true 2>/dev/null; then
    echo "skipped: needs root to mount a small tmpfs"
    exit 77
  fi
  FAULT_INSIDE=1 exec unshare -m "$0" "$@"
fi

images=${MOEXTRACT_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
if [[ ! -e $images/t10k-images-idx3-ubyte.gz && $case_name != doctor ]]; then
  echo "skipped: no Fashion-MNIST in $images (MOEXTRACT_FASHION_MNIST)"
  exit 77
fi

work=$(mktemp -d)
cleanup() {
  mountpoint -q "$work/disk" 2>/dev/null && umount "$work/disk"
  rm -rf "$work"
}
trap cleanup EXIT
export FAULT_STORE=$work/store FAULT_RUN=$work/run
log=$work/log

complain() {
  echo "$*"
  echo "--- the log:"
  tail -n 40 "$log"
  exit 1
}
# expect CODE COMMAND...: runs it, output to the log.
expect() {
  local wanted=$1 code=0
  shift
  timeout --kill-after=10 200 "$@" >"$log" 2>&1 || code=$?
  ((code == wanted)) || complain "exit code $code instead of $wanted: $*"
}
says() { grep -qE -- "$1" "$log" || complain "the log does not say: $1"; }
never_says() { ! grep -qE -- "$1" "$log" || complain "the log says: $1"; }
once() { [[ $(grep -cE -- "$1" "$log") == 1 ]] || complain "the log does not say exactly once: $1"; }
collects() { find "$FAULT_STORE" -maxdepth 1 -name 'collect-*' | wc -l; }
shard() { echo "$FAULT_STORE"/collect-*/shard-000003.h5; }
# Waits until the log of the running job says so.
wait_for() {
  local i
  for ((i = 0; i < 1200; ++i)); do
    grep -qE -- "$1" "$log" 2>/dev/null && return
    kill -0 "$job" 2>/dev/null || complain "the job ended before it said: $1"
    sleep 0.05
  done
  complain "waited in vain for: $1"
}
# ends CODE: the job in the background does, within a minute.
ends() {
  local i code=0
  for ((i = 0; i < 1200; ++i)); do
    kill -0 "$job" 2>/dev/null || break
    sleep 0.05
  done
  kill -0 "$job" 2>/dev/null && { pkill -KILL -P "$job"; complain "the job did not end"; }
  wait "$job" || code=$?
  ((code == $1)) || complain "exit code $code instead of $1"
}
begin() {
  : >"$log" # what an earlier job said must not be taken for this one's
  "$@" >>"$log" 2>&1 &
  job=$!
}
flip_bit() { # FILE OFFSET
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf '%b' "\\x$(printf %x $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# SIGUSR2 while a stage works on 3 ranks: saved, exit code 75; run again on 2: the bytes of an undisturbed run.
usr2_during() { # STAGE LOGGED FOUND
  expect 0 "$program" run "$config"
  mv "$FAULT_STORE" "$work/undisturbed"
  rm -rf "$FAULT_RUN"
  begin "$mpirun" 3 "$program" run "$config"
  wait_for "$2"
  kill -USR2 "$job" # mpirun hands it on to all ranks
  ends 75
  says "moextract: interrupted \(signal .*\): .*Run the same command again"
  once "moextract: interrupted"
  expect 0 "$mpirun" 2 "$program" run "$config"
  says "$3"
  diff -r -x .runs -x .watch -x manifest.json -x DONE -x timing.json -x '*.iterations.jsonl' "$work/undisturbed" "$FAULT_STORE" >"$log" ||
    complain "the resumed run differs from the undisturbed one"
}

# A clustering of one layer after the other that lasts long enough to be hit inside a layer.
long_clustering=(cluster "$config" --set collect.tokens_per_image=0 --set cluster.k=32 --set cluster.n_init=4
  --set cluster.max_iterations=40 --set cluster.tolerance=0)
# Waits until layer 0 has been saved inside, disturbs the job by `kill SIGNAL`, and goes on with another number of ranks.
during_iteration() { # SIGNAL CODE
  expect 0 "$program" "${long_clustering[@]}"
  mv "$FAULT_STORE"/cluster-* "$work/undisturbed"
  begin "$mpirun" 3 "$program" "${long_clustering[@]}"
  wait_for "cluster: begins"
  local i
  for ((i = 0; i < 1200; ++i)); do
    compgen -G "$FAULT_STORE/cluster-*/layer-000.state.safetensors" >"$work/found" && break
    sleep 0.02
  done
  [[ -s $work/found ]] || complain "no iteration was saved"
  if [[ $1 == KILL ]]; then kill -KILL "$(pgrep -P "$job" | tail -n 1)"; else kill "-$1" "$job"; fi
  ends "$2"
}

case $case_name in
  usr2_iteration)
    during_iteration USR2 75
    says "clustering was asked to stop; 0 of 3 layers are saved, and of the next one [0-9]+ iterations of start [1-4] of 4"
    expect 0 "$mpirun" 2 "$program" "${long_clustering[@]}"
    says "cluster: layer 0: goes on from iteration [0-9]+ of start [1-4]"
    diff -r -x manifest.json -x DONE -x '*.iterations.jsonl' "$work/undisturbed" "$FAULT_STORE"/cluster-* || complain "the clusters differ"
    ;;
  kill_iteration)
    during_iteration KILL 137
    expect 0 "$mpirun" 4 "$program" "${long_clustering[@]}"
    says "cluster: layer 0: goes on from iteration [0-9]+ of start [1-4]"
    diff -r -x manifest.json -x DONE -x '*.iterations.jsonl' "$work/undisturbed" "$FAULT_STORE"/cluster-* || complain "the clusters differ"
    ;;
  usr2_train) usr2_during train "train: begins" "train: resumed from step|train: begins" ;;
  usr2_collect) usr2_during collect "collect: begins" "train: already there" ;;
  usr2_cluster) usr2_during cluster "cluster: layer 0" "collect: already there" ;;

  bit_flip)
    expect 0 "$program" collect "$config"
    cp "$(shard)" "$work/whole.h5"
    flip_bit "$(shard)" $(($(stat -c %s "$(shard)") / 2))
    expect 4 "$mpirun" 2 "$program" run "$config"
    says "error: .*shard-000003.h5"
    once "moextract: error"
    expect 4 "$program" verify "$config"
    says "collect: BROKEN"
    says "shard-000003.h5 has other content"
    expect 4 "$program" verify --repair "$config"
    expect 0 "$program" run "$config"
    cmp "$work/whole.h5" "$(shard)" || complain "the shard was not made again"
    expect 0 "$program" verify "$FAULT_RUN"
    ;;
  truncated)
    expect 0 "$program" collect "$config"
    cp "$(shard)" "$work/whole.h5"
    truncate -s 1000 "$(shard)"
    expect 0 "$mpirun" 2 "$program" cluster "$config"
    says "collect: .* is damaged \(shard-000003.h5 has another size"
    cmp "$work/whole.h5" "$(shard)" || complain "the shard was not made again"
    ;;
  foreign_shards)
    # An interrupted collect finds shards that are broken in every way; each is named, and they alone are made again.
    expect 0 "$program" collect "$config"
    folder=$(echo "$FAULT_STORE"/collect-*)
    cp -r "$folder" "$work/whole"
    expect 0 "$program" collect "$config" --set run.store="$work/seed" --set run.folder="$work/seed-run" --set collect.seed=9
    expect 0 "$program" collect "$config" --set run.store="$work/model" --set run.folder="$work/model-run" --set train.steps=1
    rm "$folder/DONE" "$folder/manifest.json" "$folder/shard-000004.h5"
    cp "$work"/seed/collect-*/shard-000000.h5 "$folder"
    cp "$work"/model/collect-*/shard-000001.h5 "$folder"
    : >"$folder/shard-000002.h5"
    printf '\x89HDF\r\n\x1a\n\x00 of another program' >"$folder/shard-000003.h5"
    truncate -s 1000 "$folder/shard-000005.h5"
    cp "$folder/shard-000007.h5" "$folder/shard-000006.h5"
    flip_bit "$folder/shard-000008.h5" $(($(stat -c %s "$folder/shard-000008.h5") / 2))
    echo "no shard" >"$folder/shard-000009.h5"
    touch -d '1 hour ago' "$folder"/shard-*.h5
    expect 0 "$mpirun" 2 "$program" collect "$config"
    says "shard-000000.h5: was recorded with other seeds \([0-9]+ and [0-9]+\); the shard is made again"
    says "shard-000001.h5: was recorded with other models \(hash .*; the shard is made again"
    says "shard-000002.h5: the file is empty.*; the shard is made again"
    says "shard-000003.h5: an HDF5 file that moextract did not write.*; the shard is made again"
    says "shard-000005.h5: .*truncated or damaged.*; the shard is made again"
    says "shard-000006.h5: was recorded with other images of the set; the shard is made again"
    says "shard-000008.h5: .*; the shard is made again"
    says "shard-000009.h5: not an HDF5 file.*; the shard is made again"
    [[ $(grep -c "the shard is made again" "$log") == 8 ]] || complain "other shards are named, too"
    diff -r -x manifest.json -x DONE -x '*.iterations.jsonl' "$work/whole" "$folder" || complain "the shards differ from an undisturbed run's"
    made=$(find "$folder" -name 'shard-*.h5' -mmin -30 | wc -l)
    [[ $made == 9 ]] || complain "$made shards were made, not 9"
    # Between two stages: one deleted, one exchanged for another seed's of the same size.
    rm "$folder/shard-000010.h5"
    expect 0 "$program" cluster "$config"
    says "collect: .* is damaged \(shard-000010.h5 is missing\)"
    cmp "$work/whole/shard-000010.h5" "$folder/shard-000010.h5" || complain "the shard was not made again"
    cp "$work"/seed/collect-*/shard-000011.h5 "$folder"
    rm -rf "$FAULT_STORE"/cluster-*
    expect 4 "$mpirun" 2 "$program" cluster "$config"
    says "shard-000011.h5: was recorded with other seeds \([0-9]+ and [0-9]+\): it does not belong here"
    expect 4 "$program" verify --repair "$config"
    expect 0 "$program" cluster "$config"
    cmp "$work/whole/shard-000011.h5" "$folder/shard-000011.h5" || complain "the shard was not made again"
    # All of them another seed's, and one in another's place: they agree with each other.
    rm -rf "$FAULT_STORE"/cluster-*
    cp "$work"/seed/collect-*/shard-*.h5 "$folder"
    expect 4 "$program" cluster "$config"
    says "shard-000000.h5: was recorded with other seeds"
    cp "$work"/whole/shard-*.h5 "$folder"
    cp "$folder/shard-000003.h5" "$folder/shard-000004.h5"
    expect 4 "$mpirun" 2 "$program" cluster "$config"
    says "shard-000004.h5: was recorded with other images of the set"
    ;;
  plan)
    expect 0 "$program" collect "$config" --dry-run --images 1281167 --ranks 64 --rate 100
    says "collect, 1281167 images on 64 ranks of 1 thread:"
    says "writes +[0-9.]+ GB in 20019 files of .* 7687002 rows"
    says "time +3 min 20 s: the busiest rank has 20032 images, at 100.0 a second \(--rate\)"
    never_says "^moments, "
    expect 0 "$program" moments "$here/fault-fitted.yaml" --dry-run --images 1281167 --ranks 64 --moments-rate 100
    says "moments, 1281167 images on 64 ranks of 1 thread:"
    says "reads +all images once for [0-9]+ layers; the busiest rank has 20020"
    says "time +3 min 20 s at 100.0 images a second \(--moments-rate\)"
    expect 0 "$program" collect "$config" --dry-run
    says "time +unknown"
    expect 2 "$program" collect "$config" --rate 100
    expect 0 "$program" collect "$config"
    expect 0 "$program" collect "$config" --dry-run
    says "as the finished collect made"
    ;;
  pictures)
    mkdir -p "$work/set/ant" "$work/set/bee"
    golden=$here/../golden/images
    cp "$golden/colour.png" "$work/set/ant/one.png"
    cp "$golden/colour.png" "$work/set/bee/two.png"
    cp "$golden/grey.png" "$work/set/ant/three.png"
    cp "$golden/grey.png" "$work/set/ant/four.png"
    : >"$work/set/bee/empty.png"
    head -c 200 "$golden/colour_420.jpg" >"$work/set/bee/cut.jpg"
    echo text >"$work/set/bee/notes.txt"
    ln -s gone.png "$work/set/bee/late.png"
    pictures=(--set data.calibration.source="$work/set" --set data.calibration.count=0)
    expect 4 "$program" images "$config" "${pictures[@]}" --set data.train.source= --set data.validation.source=
    says "1 files are no pictures by their names and are left out: bee/notes.txt"
    says "1 files are links that lead nowhere and are left out: bee/late.png"
    says "1 files are empty and cannot be decoded: bee/empty.png"
    says "2 of 6 pictures cannot be decoded"
    says "bee/cut.jpg: damaged JPEG"
    says "1 pictures are there with different labels"
    says "ant/one.png \(label 0\) = bee/two.png \(label 1\)"
    says "1 pictures are there more than once"
    says "ant/four.png \(label 0\) = ant/three.png"
    rm "$work/set/bee"/{empty.png,cut.jpg,two.png}
    cp "$golden/colour_420.jpg" "$work/set/bee/"
    expect 0 "$program" images "$config" "${pictures[@]}" --set data.train.source= --set data.validation.source=
    ;;
  manifest_cut)
    expect 0 "$program" collect "$config"
    truncate -s 100 "$FAULT_STORE"/collect-*/manifest.json
    expect 4 "$program" verify "$config"
    says "manifest.json does not have the hash that DONE holds"
    expect 0 "$program" collect "$config"
    says "collect: .* is damaged \(.*manifest.json: is cut short"
    expect 0 "$program" verify "$config"
    ;;
  vanished_input)
    expect 4 "$mpirun" 2 "$program" run "$config" --set data.validation.source="$work/gone-idx3-ubyte.gz"
    says "error: .*gone-idx3-ubyte.gz"
    once "moextract: error"
    expect 4 "$program" run "$config" --set model.weights="$work/gone.safetensors"
    says "model.weights: $work/gone.safetensors does not exist"
    [[ ! -e $FAULT_STORE && ! -e $FAULT_RUN ]] || complain "something was written before the inputs were looked at"
    ;;
  read_only)
    mkdir "$work/disk"
    if [[ $(id -u) == 0 ]]; then
      mount -t tmpfs -o size=1m,ro none "$work/disk"
    else
      chmod 555 "$work/disk"
    fi
    export FAULT_STORE=$work/disk/store
    expect 7 "$mpirun" 2 --mca btl self,tcp "$program" run "$config"
    says "error: .*$work/disk/store"
    once "moextract: error"
    ;;
  full_disk)
    mkdir "$work/disk"
    mount -t tmpfs -o size=700k none "$work/disk"
    export FAULT_STORE=$work/disk/store
    expect 7 "$mpirun" 2 "$program" run "$config"
    says "No space left on device"
    once "moextract: error"
    mount -o remount,size=200m "$work/disk"
    expect 0 "$mpirun" 2 "$program" run "$config"
    expect 0 "$program" verify "$config"
    ;;
  one_rank_full)
    # Files of one rank of three may have 64 KB: for it alone the disk is full, and all end.
    begin "$mpirun" 3 bash -c 'trap "" XFSZ; exec "$@"' one_rank_full "$program" run "$config"
    wait_for "train: begins"
    prlimit --fsize=65536:65536 --pid "$(pgrep -P "$job" | tail -n 1)"
    ends 7
    says "error: rank 2: .*File too large"
    once "moextract: error"
    expect 0 "$mpirun" 3 "$program" run "$config"
    expect 0 "$program" verify "$config"
    ;;

  lost_rank)
    begin "$mpirun" 3 "$program" run "$config"
    wait_for "collect: begins"
    kill -KILL "$(pgrep -P "$job" | tail -n 1)"
    started=$SECONDS
    ends 137
    ((SECONDS - started < 30)) || complain "it took $((SECONDS - started)) s"
    expect 0 "$mpirun" 2 "$program" run "$config"
    says "taking over from it|collect: already there"
    ;;
  hang)
    begin "$mpirun" 3 "$program" run "$config" --set run.deadline=6
    wait_for "train: begins"
    stopped=$(pgrep -P "$job" | tail -n 1)
    kill -STOP "$stopped"
    ends 9
    once "moextract: error: hang in "
    says "hang in [a-z_]+\(.*\), number [0-9]+, [0-9]+ bytes: arrived: 0, 1; not arrived: 2 \(no sign of life"
    says "watchdog: rank 0 on .* waits in "
    expect 0 "$mpirun" 2 "$program" run "$config"
    ;;
  time_limit)
    # No machine trains that many steps in the seconds that are left.
    long=(--set train.steps=1000000)
    expect 75 "$mpirun" 2 "$program" run "$config" "${long[@]}" --set run.time_limit=1 --set run.stop_before_end=58
    says "interrupted \(the end of the job's time is near\)"
    # Half of the ten seconds, for the margin of two minutes would leave nothing.
    SLURM_JOB_END_TIME=$(($(date +%s) + 10)) expect 75 "$program" run "$config" "${long[@]}"
    says "interrupted \(the end of the job's time is near\)"
    FAULT_RUN=$work/short SLURM_JOB_END_TIME=$(($(date +%s) + 100000)) expect 0 "$program" run "$config"
    ;;
  two_processes)
    FAULT_RUN=$work/other "$program" run "$config" >"$work/log2" 2>&1 &
    second=$!
    expect 0 "$program" run "$config"
    wait "$second" || complain "the other process failed: $(tail -n 3 "$work/log2")"
    cat "$work/log2" >>"$log"
    says "makes this artefact; waiting for it"
    says "made by another process meanwhile"
    never_says "taking over"
    expect 0 "$program" verify "$config"
    ;;

  status)
    expect 0 "$program" status "$config"
    says "\(not begun\)"
    says "collect +to do"
    expect 0 "$program" collect "$config"
    expect 0 "$program" status "$FAULT_RUN"
    says "collect +done .*1 ranks"
    says "cluster +to do"
    expect 4 "$program" status "$work"
    ;;
  explain)
    expect 0 "$program" collect "$config"
    expect 0 "$program" run --explain "$config" --set collect.seed=7
    says "collect +to be made: differs from collect-[0-9a-f]{16}, the nearest that is there, in"
    says "setting collect.seed \([0-9]+ there, 7 now\)"
    says "train +done: "
    says "cluster +to be made: the store holds no finished artefact of this stage"
    ;;
  clean)
    expect 0 "$program" collect "$config"
    FAULT_RUN=$work/other expect 0 "$program" collect "$config" --set collect.seed=7
    rm -r "$work/other"
    expect 0 "$program" clean --store "$FAULT_STORE"
    says "1 artefacts of .* that no run refers to; nothing was removed"
    [[ $(collects) == 2 ]] || complain "a dry run removed something"
    expect 0 "$program" clean --store "$FAULT_STORE" --yes
    [[ $(collects) == 1 ]] || complain "not removed"
    expect 0 "$program" verify "$config"
    ;;
  doctor)
    expect 0 "$mpirun" 2 "$program" doctor
    says "^MPI +Open MPI|^MPI +[A-Za-z]"
    says "^HDF5 +[0-9]"
    says "^LibTorch +[0-9]"
    says "^launcher +2 tasks"
    says "^ranks +2 on 1 host \(mpi\)"
    says "^NCCL +"
    says "^rank +host +process +cores +threads +computes on +GPU"
    says "^ +1 .* (cpu|cuda:[0-9]+) "
    ;;
  *)
    echo "no case $case_name"
    exit 2
    ;;
esac
echo "$case_name: as expected"
