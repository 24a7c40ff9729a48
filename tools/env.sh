# Source this: sets what zeromini's tools need in a shell.

zeromini_root=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)
export PATH="$zeromini_root/build/release/bin:$PATH"

# Open MPI refuses root and more ranks than cores unless told; idle ranks yield,
# since two ranks may share a core.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none

# One BLAS thread a rank: the ranks are the parallelism.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
unset zeromini_root
