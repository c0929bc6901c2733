"""Train a network without and with a CGNL block on a question about videos.

A clip shows two handwritten digits, one at each end: are they the same one?
1. The demo writes 11,200 small mp4 files to data/ (half a minute).
2. It trains a network on single digits (two minutes on two cores).
3. It trains that network on the question, without and with a block, side by
   side (four minutes). Ctrl-C stops the demo, and a second call goes on.
"""

import argparse

from cgnl_mm.cli import run
from cgnl_mm.experiments.demo import run_demo


def parse_args() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    about = 'take a few clips, in a folder without data and work_dirs'
    parser.add_argument('--quick', action='store_true', help=about)
    about = 'show what the tools print'
    parser.add_argument('--verbose', action='store_true', help=about)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(__doc__)
    run_demo(args.quick, args.verbose)


if __name__ == '__main__':
    run(main)
