"""Evaluate a checkpoint of mmpretrain, mmaction2 or mmdet.

python tools/test.py CONFIG work_dirs/NAME/epoch_12.pth
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
from _fit import compare, first_of
from _missing_data import require_data


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--dump',
        '--out',
        metavar='FILE.pkl',
        help='write the predictions for offline evaluation',
    )
    add_common_options(parser)
    return parser.parse_args()


def merge_test_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of testing into the config.

    Raises:
        SetupError: An option that this config cannot serve.
    """
    from cgnl_mm.errors import SetupError

    for name in ('test_cfg', 'test_dataloader', 'test_evaluator'):
        if cfg.get(name) is None:
            raise SetupError(f'{args.config} has no {name}: nothing to test')
    require_file(args.checkpoint, 'checkpoint')
    require_whole(args.checkpoint)
    cfg.load_from, cfg.resume = args.checkpoint, False

    if args.amp:
        cfg.test_cfg.fp16 = True

    if args.dump is not None:
        if not args.dump.endswith(('.pkl', '.pickle')):
            raise SetupError(
                f'--dump writes a .pkl, as the hosts do: got {args.dump!r}'
            )
        # mmdet's own packs the masks
        det = cfg.get('default_scope') == 'mmdet'
        metric = dict(
            type='DumpDetResults' if det else 'DumpResults',
            out_file_path=args.dump,
        )
        metrics = cfg.test_evaluator
        if not isinstance(metrics, (list, tuple)):
            metrics = [metrics]
        cfg.test_evaluator = [*metrics, metric]


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    merge_test_options(cfg, args)
    require_data(cfg, ('test',))
    runner = build_runner(cfg)
    require_fit(runner, args.checkpoint)
    runner.test()


def require_fit(runner, path: str) -> None:
    """Raise SetupError where a checkpoint lacks weights, or has others.

    MMEngine warns, and tests what is left at random.
    """
    from mmengine.runner import CheckpointLoader
    from torch import nn

    from cgnl_mm.errors import SetupError

    if not isinstance(runner.model, nn.Module):
        return  # FlexibleRunner builds it later
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    found = compare(runner.model, loaded)
    # a loss's or a teacher's are not needed here
    extra = [key for key in found.extra if key.startswith('backbone.')]
    faults = [*found.shapes, *found.missing, *extra]
    if faults:
        raise SetupError(
            f'{path} is of another network than {runner.cfg.filename}: '
            + first_of(faults)
        )


if __name__ == '__main__':
    run(main)
