"""Train a config of mmpretrain, mmaction2 or mmdet.

python tools/train.py configs/i3d_r18_cgnl_movingdigits.py
python tools/train.py CONFIG --resume --cfg-options randomness.seed=1
"""

import argparse
import os

# Before torch is imported: on a CPU that is shared, threads that spin while
# they wait made training 50 times slower (2 cores, one of them taken).
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

from cgnl_mm.cli import run
from cgnl_mm.cli.runner import add_runner_options, train


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    add_runner_options(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint; without a path, from the last '
        'one in the work folder, or from the start if there is none yet',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='train only'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's base batch size to "
        'the actual one',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    return parser.parse_args()


def main() -> None:
    train(parse_args())


if __name__ == '__main__':
    run(main)
