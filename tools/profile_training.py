"""Where a training step of a video config goes: decoder, transforms, network.

    python tools/profile_training.py configs/i3d_r50_cgnl_minikinetics.py
    python tools/profile_training.py CONFIG --device cuda --amp bfloat16
    python tools/profile_training.py CONFIG --seconds 10 --size 340 256

Generated clips of the size of the real ones take the place of the data set.
Each transform of the training pipeline is timed in one process on one thread;
the network runs whole steps over one batch. Medians; the last line says how
many workers feed the network.
"""

import argparse
import os

# PyTorch reads it when it is imported: threads that wait must not spin.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

from mmengine.registry import init_default_scope

from cgnl_mm.benchmark.profile import profile_training
from cgnl_mm.benchmark.settings import require_positive
from cgnl_mm.cli import read_config_file, run
from cgnl_mm.errors import SetupError
from cgnl_mm.hosts import require_host


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='of an mmaction2 recogniser')
    add('--clips', type=int, default=8, help='clips; default: 8')
    add('--seconds', type=float, default=10.0, help='of a clip; default: 10')
    add('--fps', type=int, default=30, help='frames a second; default: 30')
    add('--size', type=int, nargs=2, default=(340, 256), metavar=('W', 'H'),
        help='of a frame, even; default: 340 256')  # fmt: skip
    add('--rounds', type=int, default=5,
        help='passes over the clips; default: 5')  # fmt: skip
    add('--batch', type=int, help="clips of a step; default: the config's")
    add('--steps', type=int, default=5, help='default: 5')
    add('--device', choices=['cpu', 'cuda'], default='cpu',
        help='default: cpu')  # fmt: skip
    add('--amp', choices=['bfloat16', 'float16'],
        help='mixed precision; default: none')  # fmt: skip
    add('--channels-last', action='store_true',
        help='the network in channels-last layout')  # fmt: skip
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    require_positive(
        args, 'clips', 'seconds', 'fps', 'rounds', 'batch', 'steps'
    )
    if min(args.size) < 2 or any(n % 2 for n in args.size):
        raise SetupError(f'--size must be even, got {args.size}')
    require_host('mmaction')
    cfg = read_config_file(args.config)
    if cfg.get('default_scope') != 'mmaction':
        raise SetupError(
            f'{args.config} is not a config of mmaction2, whose clips this '
            'profile is about'
        )
    init_default_scope('mmaction')
    print(profile_training(cfg, args))


if __name__ == '__main__':
    run(main)
