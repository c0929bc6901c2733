#!/usr/bin/env bash
# usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# Evaluate on a Slurm cluster, one task for each GPU. Variables, set before
# `bash`: GPUS (in all; 8), GPUS_PER_NODE (8, or GPUS if fewer), CPUS_PER_TASK
# (5), SRUN_ARGS, PORT (random), PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

[ $# -ge 4 ] || usage
launch_srun "$1" "$2" test.py "$3" "$4" "${@:5}"
