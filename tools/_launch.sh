# What the launchers share; sourced by them, not run.

TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)"
PYTHON="${PYTHON:-python}"

# usage [error]: print the error, then the comment at the head of the script
usage() {
    [ $# -eq 0 ] || echo "error: $*" >&2
    sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

# require_number NAME VALUE: a whole number from 1 on
require_number() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "$1 must be a number from 1, got '$2'"
}

require_port() {
    require_number PORT "$1"
    (($1 <= 65535)) || usage "PORT must be at most 65535, got '$1'"
}

# Whether somebody listens on a port of this machine.
port_is_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# launch_torchrun GPUS TOOL [options of TOOL]: GPUS processes on this node
launch_torchrun() {
    local gpus=$1 nnodes=${NNODES:-1} rank=${NODE_RANK:-0} port=${PORT:-29500}
    local address=${MASTER_ADDR:-127.0.0.1} where
    require_number GPUS "$gpus"
    require_number NNODES "$nnodes"
    require_port "$port"
    if ! [[ $rank =~ ^(0|[1-9][0-9]*)$ ]] || ((rank >= nnodes)); then
        usage "NODE_RANK must be 0 to $((nnodes - 1)), got '$rank'"
    fi

    if ((nnodes == 1)) && [ -z "${PORT:-}" ]; then
        # a free port; without the address it looks up the host's own name
        where=(--standalone --local-addr=127.0.0.1)
    else
        if ((rank == 0)) && port_is_taken "$port"; then
            echo "error: port $port is taken, perhaps by another training." \
                "Choose another, on every node: PORT=$((port + 1))" >&2
            exit 2
        fi
        if ((nnodes > 1)) && [ -z "${MASTER_ADDR:-}" ]; then
            echo 'note: MASTER_ADDR is not set, so node 0 is taken to be on' \
                "this machine ($address)" >&2
        fi
        where=(--nnodes="$nnodes" --node-rank="$rank"
            --master-addr="$address" --master-port="$port")
    fi
    # what torchrun would choose, with a warning
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    exec "$PYTHON" -m torch.distributed.run \
        "${where[@]}" --nproc-per-node="$gpus" \
        "$TOOLS/$2" --launcher pytorch "${@:3}"
}

# launch_srun PARTITION JOB_NAME TOOL [options of TOOL]: one task per GPU
launch_srun() {
    local gpus=${GPUS:-8} extra
    require_number GPUS "$gpus"
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    require_number GPUS_PER_NODE "$per_node"
    require_number CPUS_PER_TASK "${CPUS_PER_TASK:-5}"
    read -ra extra <<<"${SRUN_ARGS:-}"
    # MMEngine's default is one fixed port, and jobs may share a node
    export MASTER_PORT="${PORT:-$((12000 + RANDOM % 20000))}"
    require_port "$MASTER_PORT"
    exec srun \
        --partition="$1" \
        --job-name="$2" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${extra[@]+"${extra[@]}"} \
        "$PYTHON" -u "$TOOLS/$3" --launcher slurm "${@:4}"
}
