"""Evaluate a checkpoint of mmpretrain, mmaction2 or mmdet.

python tools/test.py CONFIG work_dirs/NAME/epoch_12.pth
"""

import os

# before torch is imported, as in train.py
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

from cgnl_mm import cli
from cgnl_mm.cli.runner import add_runner_options, test


def main() -> None:
    parser = cli.make_parser(__doc__)
    add_runner_options(parser)
    add = parser.add_argument
    # fmt: off
    add('checkpoint', help='path or URL of the checkpoint')
    add('--dump', '--out', metavar='FILE.pkl',
        help='write the predictions for offline evaluation')
    # fmt: on
    test(parser.parse_args())


if __name__ == '__main__':
    cli.run(main)
