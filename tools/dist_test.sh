#!/usr/bin/env bash
# usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# Evaluate in GPUS processes on this machine, or on each of several machines;
# on a machine without a GPU they share the CPU. Variables, set before `bash`:
# NNODES, NODE_RANK, MASTER_ADDR, PORT, PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"

[ $# -ge 3 ] || usage
launch_torchrun "$3" test.py "$1" "$2" "${@:4}"
