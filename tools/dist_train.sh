#!/usr/bin/env bash
# usage: bash tools/dist_train.sh CONFIG GPUS [options of train.py]
# Train in GPUS processes on this machine, or on each of several machines; on
# a machine without a GPU they share the CPU. Variables, set before `bash`:
# NNODES, NODE_RANK, MASTER_ADDR, PORT, PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

[ $# -ge 2 ] || usage
launch_torchrun "$2" train.py "$1" "${@:3}"
