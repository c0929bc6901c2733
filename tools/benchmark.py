"""Measure what the block costs: time, peak memory, saved bytes, traffic.

    python tools/benchmark.py                         # the block alone
    python tools/benchmark.py --what networks
    python tools/benchmark.py --what scaling --forms 'cgnl|loop|NL'
    python tools/benchmark.py --what traffic --dtype bfloat16
    python tools/benchmark.py --what all --device cuda --dtype bfloat16
    python tools/benchmark.py --shapes 'res4.*b1$'

Writes, for each experiment, OUT/<experiment>.csv, .md and .png. Forms run
round robin within a case, so only ratios within a case mean something. A form
that computes CGNL is timed after it agreed with the float64 truth.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

# PyTorch reads both when it is imported: threads that wait must not spin,
# and the profiler must not announce itself.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

from cgnl_mm.benchmark import EXPERIMENTS, Settings, run_benchmark
from cgnl_mm.cli import require_writable, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add('--what', choices=[*EXPERIMENTS, 'all'], help='default: block')
    add('--device', choices=['cpu', 'cuda'], help='default: cpu')
    add('--dtype', choices=['float32', 'bfloat16', 'float16'],
        help='of inputs and weights; of mixed precision for networks and '
        'traffic. Default: float32')  # fmt: skip
    add('--channels-last', action='store_true',
        help='inputs and weights in channels-last layout')  # fmt: skip
    add('--shapes', metavar='REGEX',
        help='only the cases or networks whose name it finds: "res4.*b1$", '
        '"positions=", "I3D"')  # fmt: skip
    add('--forms', metavar='REGEX',
        help='only the columns whose name it finds; the per-group loop, '
        'which ratios need, stays')  # fmt: skip
    add('--repeats', type=int, metavar='N',
        help='samples of each form; default: 15')  # fmt: skip
    add('--budget', type=float, metavar='SECONDS',
        help='a form whose samples would take longer gets fewer, but 3 or '
        'more; default: 20')  # fmt: skip
    add('--threads', type=int, metavar='N',
        help="CPU threads; default: PyTorch's choice")  # fmt: skip
    add('--backend', help="the blocks' path in networks; default: auto")
    add('--compile', action='store_true',
        help='also time the block and the per-group loop under '
        'torch.compile')  # fmt: skip
    add('--tf32', action='store_true',
        help='allow TensorFloat-32 for float32 on CUDA, for all '
        'forms')  # fmt: skip
    add('--nl-limit', type=float, metavar='GB',
        help='leave a NonLocal out where its affinity is larger; default: '
        '2 on a CPU, 8 on CUDA')  # fmt: skip
    add('--quick', action='store_true',
        help='tiny inputs: shows that it works, measures nothing')  # fmt: skip
    add('--out', type=Path, help='folder; default: work_dirs/benchmark')
    return parser.parse_args()


def main() -> None:
    settings = Settings(**vars(parse_args()))
    require_writable(settings.out, '--out')
    sys.exit(run_benchmark(settings, shlex.join(sys.argv[1:])))


if __name__ == '__main__':
    run(main)
