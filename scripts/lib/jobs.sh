# shellcheck shell=bash
# How many compilers may run at once. A file that includes LibTorch needs up to 2 GB, and in a container both the cores
# and the memory that the machine shows can be more than what the control group grants.

core_count() {
  local cores quota period
  cores=$(nproc)
  if [[ -r /sys/fs/cgroup/cpu.max ]]; then
    read -r quota period < /sys/fs/cgroup/cpu.max
    if [[ $quota =~ ^[0-9]+$ && ${period:-0} -gt 0 ]]; then
      quota=$(((quota + period - 1) / period))
      ((quota >= cores)) || cores=$quota
    fi
  fi
  ((cores >= 1)) || cores=1
  printf '%d\n' "$cores"
}

# Memory that may be used, in MiB.
memory_mib() {
  local mib limit
  mib=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  if [[ -r /sys/fs/cgroup/memory.max ]]; then
    read -r limit < /sys/fs/cgroup/memory.max
    if [[ $limit =~ ^[0-9]+$ ]]; then
      limit=$((limit / 1048576))
      ((limit >= mib)) || mib=$limit
    fi
  fi
  printf '%d\n' "$mib"
}

compile_jobs() {
  local jobs by_memory
  jobs=$(core_count)
  by_memory=$(($(memory_mib) / 2048))
  ((by_memory >= jobs)) || jobs=$by_memory
  ((jobs >= 1)) || jobs=1
  printf '%d\n' "$jobs"
}
