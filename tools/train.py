"""Train a config of mmpretrain, mmaction2 or mmdet.

python tools/train.py configs/i3d_r18_cgnl_movingdigits.py
python tools/train.py CONFIG --resume --cfg-options randomness.seed=1
"""

import os

# Before torch is imported: on a CPU that is shared, threads that spin while
# they wait made training 50 times slower (2 cores, one of them taken).
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

from cgnl_mm import cli
from cgnl_mm.cli.runner import add_runner_options, train


def main() -> None:
    parser = cli.make_parser(__doc__)
    add_runner_options(parser)
    add = parser.add_argument
    # fmt: off
    add('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='continue from this checkpoint; without a path, from the last '
        'one in the work folder, or from the start if there is none yet')
    add('--no-validate', action='store_true', help='train only')
    add('--auto-scale-lr', action='store_true',
        help="scale the learning rate from the config's base batch size to "
        'the actual one')
    add('--seed', type=int, help='random seed')
    # fmt: on
    train(parser.parse_args())


if __name__ == '__main__':
    cli.run(main)
