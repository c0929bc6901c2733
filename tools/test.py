"""Evaluate a checkpoint of mmpretrain, mmaction2 or mmdet.

python tools/test.py CONFIG work_dirs/NAME/epoch_12.pth
"""

import argparse
import os

# before torch is imported, as in train.py
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

from cgnl_mm.cli import run
from cgnl_mm.cli.runner import add_runner_options, test


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint')
    add_runner_options(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--dump',
        '--out',
        metavar='FILE.pkl',
        help='write the predictions for offline evaluation',
    )
    return parser.parse_args()


def main() -> None:
    test(parse_args())


if __name__ == '__main__':
    run(main)
