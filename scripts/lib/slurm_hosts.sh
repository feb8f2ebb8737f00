# shellcheck shell=bash
# Two Slurm hosts on one machine: a network namespace each, with a bridge between them; a controller beside them. Needs root, the
# packages slurm-wlm, munge and iproute2. slurm_start FOLDER brings them up, slurm_stop takes them down, by what was
# recorded in FOLDER alone. FOLDER must not lie below /tmp, which each host has for itself.

slurm_keep=() # folders below /tmp that both hosts see

slurm_missing() { # what is missing for it, or nothing
  local program
  [[ $(id -u) == 0 ]] || { echo "needs root for network namespaces"; return; }
  for program in slurmctld slurmd sbatch munged ip nsenter unshare; do
    command -v "$program" > /dev/null || { echo "no $program: apt-get install slurm-wlm munge iproute2"; return; }
  done
  ip netns list > /dev/null 2>&1 && unshare --uts --mount --ipc true 2> /dev/null ||
    echo "this machine allows no namespaces"
}

# Names carry the number of this process, so that two of these can stand side by side; 10.99.X are their networks.
slurm_start() { # FOLDER
  slurm_folder=$1
  slurm_tag=$$
  local net=$((slurm_tag % 200 + 20)) bridge=moe-br$slurm_tag host
  slurm_net=10.99.$net
  mkdir -p "$slurm_folder"/{state,spool.n1,spool.n2,pids}
  if ! pgrep -x munged > /dev/null; then
    install -d -o munge -g munge /run/munge
    runuser -u munge -- munged
    pgrep -x munged > "$slurm_folder/pids/munged"
  fi
  ip link add "$bridge" type bridge
  ip address add "$slurm_net.254/24" dev "$bridge"
  ip link set "$bridge" up
  for host in 1 2; do
    ip netns add "moe-n$host-$slurm_tag"
    ip link add "moe-v$host-$slurm_tag" type veth peer name eth0 netns "moe-n$host-$slurm_tag"
    ip link set "moe-v$host-$slurm_tag" master "$bridge" up
    ip -n "moe-n$host-$slurm_tag" address add "$slurm_net.$host/24" dev eth0
    ip -n "moe-n$host-$slurm_tag" link set eth0 up
    ip -n "moe-n$host-$slurm_tag" link set lo up
  done
  cat > "$slurm_folder/hosts" << EOF_HOSTS
127.0.0.1 localhost
$slurm_net.1 n1
$slurm_net.2 n2
$slurm_net.254 ctl
EOF_HOSTS
  cat > "$slurm_folder/slurm.conf" << EOF_CONF
ClusterName=moextract
SlurmctldHost=ctl($slurm_net.254)
SlurmctldPort=$((7000 + net))
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$slurm_folder/state
SlurmdSpoolDir=$slurm_folder/spool.%n
SlurmctldLogFile=$slurm_folder/slurmctld.log
SlurmdLogFile=$slurm_folder/slurmd.%n.log
SlurmctldPidFile=$slurm_folder/pids/slurmctld
SlurmdPidFile=$slurm_folder/pids/slurmd.%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=pmix
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
KillWait=5
SlurmdTimeout=10
MaxArraySize=3
NodeName=n1 NodeAddr=$slurm_net.1 CPUs=2 RealMemory=4000
NodeName=n2 NodeAddr=$slurm_net.2 CPUs=2 RealMemory=4000
# Jobs of the second partition take the hosts away from those of the first, after a warning.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=01:00:00 PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 MaxTime=01:00:00 PriorityTier=10 PreemptMode=OFF
EOF_CONF
  export SLURM_CONF=$slurm_folder/slurm.conf
  slurm_client_shell="hostname ctl; mount --make-rprivate /; mount --bind '$slurm_folder/hosts' /etc/hosts"
  unshare --uts --mount bash -c "$slurm_client_shell; exec slurmctld -D" > "$slurm_folder/slurmctld.out" 2>&1 &
  echo $! > "$slurm_folder/pids/controller"
  disown
  slurm_start_host 1
  slurm_start_host 2
  local i
  for ((i = 0; i < 60; ++i)); do
    [[ $(on_cluster sinfo --noheader --states=idle --format=%D 2> /dev/null) == 2 ]] && return 0
    sleep 1
  done
  echo "the two hosts did not come up within a minute; see $slurm_folder/*.log" >&2
  return 1
}

# Below /tmp each host sees a folder of its own, and in it what the program needs from there (slurm_keep).
slurm_start_host() { # NUMBER
  local host=$1 tmp=$slurm_folder/host$1/tmp keep mounts=''
  # What PMIx left here and there in an earlier life would be in the way of the same job's next start.
  rm -rf "$slurm_folder/spool.n$host" "$slurm_folder/host$host"
  mkdir -p "$slurm_folder/spool.n$host" "$tmp"
  for keep in "${slurm_keep[@]}"; do
    mkdir -p "$tmp/${keep#/tmp/}"
    mounts+="mount --bind '$keep' '$tmp/${keep#/tmp/}'; "
  done
  nsenter --net="/run/netns/moe-n$host-$slurm_tag" unshare --uts --mount --ipc bash -c "hostname n$host
    mount --make-rprivate /; mount --bind '$slurm_folder/hosts' /etc/hosts; $mounts mount --rbind '$tmp' /tmp
    mount -t tmpfs tmpfs /dev/shm; exec slurmd -D -N n$host" > "$slurm_folder/slurmd$host.out" 2>&1 &
  echo $! > "$slurm_folder/pids/host$host"
  disown # the shell need not tell when it is killed
}

# As if the host had lost its power: the daemon and all that runs there.
slurm_kill_host() { # NUMBER
  ip netns pids "moe-n$1-$slurm_tag" | xargs --no-run-if-empty kill -KILL
}

# A command on the login node.
on_cluster() { unshare --uts --mount bash -c "$slurm_client_shell; exec \"\$@\"" on_cluster "$@"; }

slurm_stop() {
  [[ -n ${slurm_folder:-} ]] || return 0
  local host file
  on_cluster timeout 10 scancel --user=root > /dev/null 2>&1
  sleep 1
  for host in 1 2; do slurm_kill_host "$host" 2> /dev/null; done
  for file in controller munged; do
    [[ ! -e $slurm_folder/pids/$file ]] || xargs --no-run-if-empty kill < "$slurm_folder/pids/$file" 2> /dev/null
  done
  sleep 1
  for host in 1 2; do
    ip netns delete "moe-n$host-$slurm_tag" 2> /dev/null
    ip link delete "moe-v$host-$slurm_tag" 2> /dev/null
  done
  ip link delete "moe-br$slurm_tag" 2> /dev/null
  slurm_folder=
}
