#!/usr/bin/env bash
# usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [options of train.py]
# Train on a Slurm cluster, one task for each GPU. Variables, set before
# `bash`: GPUS (in all; 8), GPUS_PER_NODE (8, or GPUS if fewer), CPUS_PER_TASK
# (5), SRUN_ARGS, PORT (random), PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

[ $# -ge 3 ] || usage
options=("${@:4}")
# mmdet's and mmpretrain's take a work folder here, mmaction2's does not
if [ $# -ge 4 ] && [ -z "$4" ]; then
    options=("${@:5}")
elif [ $# -ge 4 ] && [[ $4 != -* ]]; then
    options=(--work-dir "${@:4}")
fi
launch_srun "$1" "$2" train.py "$3" ${options[@]+"${options[@]}"}
