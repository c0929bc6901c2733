"""Plot loss and validation curves of one or several runs, and sum them up.

    python tools/plot_curves.py work_dirs/i3d_r18_cgnl_movingdigits
    python tools/plot_curves.py work_dirs/r18_digits work_dirs/r18_cgnl_digits
    python tools/plot_curves.py work_dirs/r18_*_seed? --seeds \\
        --scalar loss grad_norm
    python tools/plot_curves.py RUN --scalar 'cgnl/*/gradient_share_*' --log

With ``--seeds``, runs whose folders differ by their seed alone
(``r18_digits_seed0``, ``r18_digits/seed_1``) become one curve: the mean, and
a band of one standard deviation.
"""

import argparse
from pathlib import Path

from cgnl_mm.analysis.curves import plot_curves
from cgnl_mm.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot loss and validation curves, and sum the runs up'
    )
    add = parser.add_argument
    # fmt: off
    add('runs', nargs='+', type=Path, metavar='RUN_DIR', help='work folders')
    add('--out', type=Path,
        help="the PNG; default: curves.png in the run's folder, or here "
        'for several runs')
    add('--metric', nargs='+', default=(), metavar='NAME',
        help='metrics to show, or patterns of their names; default: the '
        "host's main ones")
    add('--scalar', nargs='+', default=(), metavar='NAME',
        help="what training logs, or patterns ('cgnl/*'), one panel each; "
        'default: loss')
    add('--log', action='store_true',
        help='logarithmic axes for what training logs')
    add('--seeds', action='store_true',
        help='runs that differ by their seed alone are one curve')
    # fmt: on
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = args.metric, args.scalar
    print(plot_curves(args.runs, args.out, *names, args.seeds, args.log))


if __name__ == '__main__':
    run(main)
