"""Train a config of mmpretrain, mmaction2 or mmdet.

python tools/train.py configs/i3d_r18_cgnl_movingdigits.py
python tools/train.py CONFIG --resume --cfg-options randomness.seed=1
"""

import argparse

from _common import (
    add_common_options,
    build_runner,
    load_config,
    require_file,
    require_whole,
    run,
)
from _fit import watch
from _missing_data import require_data


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='path of the config')
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
    parser.add_argument(
        '--diff-rank-seed',
        action='store_true',
        help='seed + rank as the seed of each process',
    )
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='deterministic algorithms only',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='switch persistent_workers of the data loaders off',
    )
    add_common_options(parser)
    return parser.parse_args()


def merge_train_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of training into the config.

    Raises:
        SetupError: An option that this config or machine cannot serve.
    """
    from cgnl_mm.errors import SetupError

    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None

    if args.amp:
        import torch

        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        kind = getattr(kind, '__name__', kind)  # a class in a lazy config
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise SetupError(
                f'--amp does not go with optim_wrapper.type={kind!r}: '
                "'OptimWrapper' or 'AmpOptimWrapper' only"
            )
        if not torch.cuda.is_available():
            raise SetupError(
                "--amp needs a GPU (MMEngine's AmpOptimWrapper runs on no "
                'CPU): leave it out'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')

    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise SetupError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size='
                "...) in the config: the batch size that its 'lr' is for"
            )
        cfg.auto_scale_lr.enable = True

    if args.resume == 'auto':
        # a job that is queued again with --resume must not lose the
        # config's own load_from when it never got to a checkpoint
        from cgnl_mm.checkpoints import find_latest

        if find_latest(cfg.work_dir) is not None:
            cfg.resume, cfg.load_from = True, None
    elif args.resume is not None:
        require_file(args.resume, '--resume')
        require_whole(args.resume, '--resume')
        cfg.resume, cfg.load_from = True, args.resume

    randomness = dict(cfg.get('randomness') or {})
    if args.seed is not None:
        randomness['seed'] = args.seed
    if args.diff_rank_seed:
        randomness['diff_rank_seed'] = True
    if args.deterministic:
        randomness['deterministic'] = True
    if randomness:
        cfg.randomness = randomness

    if args.no_persistent_workers:
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name) is not None:
                cfg[name].persistent_workers = False


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    merge_train_options(cfg, args)
    require_data(cfg, ('train', 'val'))
    runner = build_runner(cfg)
    resume = bool(cfg.get('resume'))
    watch(runner, resume, cfg.get('load_from') or cfg.work_dir)
    runner.train()


if __name__ == '__main__':
    run(main)
