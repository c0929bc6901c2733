"""Measure what the block costs: time, peak memory, traffic.

    python tools/benchmark.py                         # the block alone
    python tools/benchmark.py --what networks         # a training step
    python tools/benchmark.py --what traffic --dtype bfloat16
    python tools/benchmark.py --what all --device cuda --dtype bfloat16 \\
        --compile

Writes OUT/benchmark.csv, .md and .png. Forms run round robin within a case, so
only ratios within a case mean something. A form that computes CGNL is timed
after it agreed with the float64 truth. The last command takes five minutes.
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

from cgnl_mm import cli
from cgnl_mm.benchmark import CASES, FORMS, Settings, run_benchmark


def main() -> None:
    parser = cli.make_parser(__doc__, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    # fmt: off
    names = [case.name for cases in CASES.values() for case in cases]
    add('--what', nargs='+', choices=['all', *CASES, *names],
        help='experiments, or some of their cases; default: block')
    add('--device', choices=['cpu', 'cuda'], help='default: cpu')
    add('--dtype', choices=['float32', 'bfloat16', 'float16'],
        help='of inputs and weights; of mixed precision for networks and '
        'traffic. Default: float32')
    add('--forms', nargs='+', choices=FORMS,
        help='default: all; the loop, which ratios need, stays')
    add('--compile', action='store_true',
        help='time the block under torch.compile, too, and count the kernels '
        'that Inductor makes for a CPU, where g++ is there')
    add('--quick', action='store_true',
        help='tiny inputs: shows that it works, measures nothing')
    add('--out', type=Path, help='folder; default: work_dirs/benchmark')
    # fmt: on
    settings = Settings(**vars(parser.parse_args()))
    cli.require_writable(settings.out, '--out')
    sys.exit(run_benchmark(settings, shlex.join(sys.argv[1:])))


if __name__ == '__main__':
    cli.run(main)
