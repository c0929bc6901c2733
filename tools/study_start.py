"""Train a small network from many first states of the block; compare them.

    python tools/study_start.py

docs/start.md tells what was found. The same command goes on where an earlier
one ended: OUT/start.csv has a line for each training. OUT/start.md and
OUT/start.png show them all.
"""

import re
from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.experiments.start import run_study


def main() -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('--only', metavar='REGEX', type=re.compile, default='',
        help='train only the settings whose name it finds')
    add('--channels', type=int, default=64,
        help='channels of the features; default: %(default)s')
    add('--seeds', type=int, default=5,
        help='trainings of each setting and task; default: %(default)s')
    add('--steps', type=int, default=800,
        help='steps of each training; default: %(default)s')
    add('--out', type=Path, default='work_dirs/start',
        help='folder; default: %(default)s')
    # fmt: on
    args = parser.parse_args()
    cli.require_writable(args.out, '--out')
    run_study(args.out, args.only, args.channels, args.seeds, args.steps)


if __name__ == '__main__':
    cli.run(main)
