# Sourced by the scripts that start mpirun on one machine: what Open MPI has to be told there.
# shellcheck shell=bash

# It refuses root, and more ranks than cores, unless told that both are meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
# It would bind each of two ranks to a single core, threads and all.
export OMPI_MCA_hwloc_base_binding_policy=none
# Containers forbid one process to read another's memory; without this every message fails there first, with a warning.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
