"""Train a network without and with a CGNL block on a question about videos.

A clip shows two handwritten digits, one at each end: are they the same one?
1. The demo writes 11,200 small mp4 files to data/ (half a minute).
2. It trains a network on single digits (two minutes on two cores).
3. It trains that network on the question, without and with a block, side by
   side (four minutes). Ctrl-C stops the demo, and a second call goes on.
"""

from cgnl_mm import cli
from cgnl_mm.experiments.demo import run_demo


def main() -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('--quick', action='store_true',
        help='take a few clips, in a folder without data and work_dirs')
    add('--verbose', action='store_true', help='show what the tools print')
    # fmt: on
    args = parser.parse_args()
    print(__doc__)
    run_demo(args.quick, args.verbose)


if __name__ == '__main__':
    cli.run(main)
