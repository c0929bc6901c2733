"""Plot loss and validation curves of one or several runs.

    python tools/plot_curves.py work_dirs/i3d_r18_cgnl_movingdigits
    python tools/plot_curves.py work_dirs/r18_digits work_dirs/r18_cgnl_digits
    python tools/plot_curves.py work_dirs/r18_*_seed? --seeds

With ``--seeds``, runs whose folders differ by their seed alone
(``r18_digits_seed0``, ``r18_digits/seed_1``) become one curve: the mean, and
the range of the runs.
"""

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.analysis.plot import plot_curves


def main() -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('runs', nargs='+', type=Path, metavar='RUN_DIR', help='work folders')
    add('--out', type=Path,
        help="the PNG; default: curves.png in the run's folder, or here "
        'for several runs')
    add('--seeds', action='store_true',
        help='runs that differ by their seed alone are one curve')
    # fmt: on
    args = parser.parse_args()
    print(f'wrote {plot_curves(args.runs, args.out, args.seeds)}')


if __name__ == '__main__':
    cli.run(main)
