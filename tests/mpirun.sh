#!/usr/bin/env bash
# tests/mpirun.sh RANKS PROGRAM [ARGS...]: starts a multi-rank test. Tests run as root in containers and with more ranks
# than cores; a user's own job needs none of these settings.
set -euo pipefail
ranks=$1
shift
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl=self,vader
export OMP_NUM_THREADS=1
exec mpirun -n "$ranks" "$@"
