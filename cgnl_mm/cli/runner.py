"""Training and testing of a config by MMEngine's Runner."""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..checkpoints import require_whole
from ..errors import SetupError
from ..hosts import host_of
from ..training.loaders import start_workers_late
from ..training.resume import find_latest
from .config import add_model_options, load_config
from .data import DataHook, require_data
from .lint import LOADERS
from .output import require_writable
from .weights import FitHook, require_fit

# of MMEngine's register_default_hooks
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger')
OWN_HOOKS += ('param_scheduler', 'checkpoint')
# what each launcher tells its processes
TOLD = dict(pytorch='RANK', slurm='SLURM_PROCID')
TOLD['mpi'] = 'OMPI_COMM_WORLD_LOCAL_RANK'


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the hosts' train.py and test.py have in common."""
    add_model_options(parser)
    parser.add_argument(
        '--work-dir',
        help="folder for logs and checkpoints; default: the config's, "
        'or work_dirs/<name of the config>',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torchrun sets the variable; torch.distributed.launch passes the option
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        default='0',
        help=argparse.SUPPRESS,
    )


def train(args: argparse.Namespace) -> None:
    """Train a config.

    Args:
        args (Namespace): The options of tools/train.py.

    Raises:
        SetupError: The config, an option, the data or a checkpoint does not
            fit.
    """
    cfg = _load_run_config(args)
    _require_parts(cfg, 'train', 'model', 'train_cfg', 'optim_wrapper')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        _use_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise SetupError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size='
                "...) in the config: the batch size that its 'lr' is for"
            )
        cfg.merge_from_dict({'auto_scale_lr.enable': True})
    _set_resume(cfg, args.resume)
    if args.seed is not None:
        given = dict(seed=args.seed)
        cfg.randomness = {**(cfg.get('randomness') or {}), **given}
    require_data(cfg, ('train', 'val'))
    start_workers_late()  # behind the hook that guards their data
    runner = _build_runner(cfg)
    runner.register_hook(DataHook(), 'LOWEST')
    if type(runner) is Runner:  # FlexibleRunner may shard the network
        # after the hooks that change the checkpoint, as that of an EMA
        path = cfg.get('load_from') or cfg.work_dir
        runner.register_hook(FitHook(path), 'LOWEST')
    runner.train()


def test(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint of a config.

    Args:
        args (Namespace): The options of tools/test.py.

    Raises:
        SetupError: The config, an option, the data or the checkpoint does
            not fit.
    """
    cfg = _load_run_config(args)
    _require_parts(cfg, 'test', 'model', 'test_cfg', 'test_evaluator')
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.dump is not None:
        _add_dump(cfg, args.dump)
    require_whole(args.checkpoint, 'checkpoint')
    cfg.load_from, cfg.resume = args.checkpoint, False
    require_data(cfg, ('test',))
    runner = _build_runner(cfg)
    meta = require_fit(runner, args.checkpoint)
    runner.register_hook(DataHook(meta), 'LOWEST')
    runner.test()


def _load_run_config(args: argparse.Namespace) -> Config:
    """Read the config and write the options of both tools into it."""
    told = TOLD.get(args.launcher)
    if told and told not in os.environ:
        raise SetupError(
            f'--launcher {args.launcher}: {told} is not set. Start the tool '
            'by torchrun, srun or mpirun, as tools/dist_*.sh and slurm_*.sh do'
        )
    os.environ.setdefault('LOCAL_RANK', args.local_rank)
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    # after the options: persistent workers depend on num_workers
    _set_loader_defaults(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename).stem)
    return cfg


def _require_parts(cfg: Config, task: str, *names: str) -> None:
    for name in (f'{task}_dataloader', *names):
        if cfg.get(name) is None:
            raise SetupError(
                f'{cfg.filename} has no {name}: nothing to {task}'
            )


def _set_loader_defaults(cfg: Config) -> None:
    """Complete the data loaders as mmpretrain's own tools do.

    mmpretrain's models take collated batches, MMEngine's default for the
    others is a list, and only mmpretrain's tools set the former.
    """
    for name in LOADERS:
        loader = cfg.get(name)
        if loader is not None and host_of(cfg) == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
            # the DataLoader refuses True without workers
            workers = loader.get('num_workers', 0)
            loader.setdefault('persistent_workers', workers > 0)


def _use_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    kind = getattr(kind, '__name__', kind)  # a class in a pure-Python config
    known = kind in ('OptimWrapper', 'AmpOptimWrapper')
    if not known or not torch.cuda.is_available():
        raise SetupError(
            '--amp needs a GPU, and optim_wrapper.type=OptimWrapper or '
            f'AmpOptimWrapper, got {kind!r}. On a CPU, take optim_wrapper='
            "dict(type='AmpOptimWrapper', dtype='bfloat16')"
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _set_resume(cfg: Config, resume: str | None) -> None:
    """Write ``--resume`` into the config: 'auto', a path, or None."""
    # a job that is queued again with --resume must not lose the config's own
    # load_from when it never got to a checkpoint
    path = find_latest(cfg.work_dir) if resume == 'auto' else resume
    if path is not None:
        if resume != 'auto':
            require_whole(path, '--resume')
        cfg.resume, cfg.load_from = True, path
    elif isinstance(cfg.get('load_from'), str):
        require_whole(cfg.load_from, 'load_from')


def _add_dump(cfg: Config, path: str) -> None:
    """Add a metric that writes the predictions."""
    if not path.endswith(('.pkl', '.pickle')):
        raise SetupError(
            f'--dump writes a .pkl, as the hosts do: got {path!r}'
        )
    require_writable(Path(path), '--dump', folder=False)
    # mmdet's own metric packs the masks
    det = host_of(cfg) == 'mmdet'
    metric = dict(
        type='DumpDetResults' if det else 'DumpResults', out_file_path=path
    )
    metrics = cfg.test_evaluator
    if not isinstance(metrics, (list, tuple)):
        metrics = [metrics]
    cfg.test_evaluator = [*metrics, metric]


def _build_runner(cfg: Config) -> Runner:
    """Build the Runner, or the one that ``runner_type`` names."""
    try:
        require_writable(Path(cfg.work_dir), 'work_dir')
        os.makedirs(cfg.work_dir, exist_ok=True)
    except OSError as error:  # a dead link, a name that is too long
        why = f'{cfg.work_dir!r:.80}: {error.strerror}'
        raise SetupError(f'work_dir: {why}') from error
    # to leave a hook out; MMEngine takes None for hooks of its own alone
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if hook is None and name not in OWN_HOOKS:
            del cfg.default_hooks[name]
    strategy = cfg.get('strategy') or {}
    if cfg.launcher == 'none' and strategy.get('type') == 'FSDPStrategy':
        # It needs the process group of a launcher.
        print(
            'note: one process has nothing to shard, so FSDPStrategy is left '
            'out; tools/dist_train.sh starts several',
            file=sys.stderr,
        )
        cfg.strategy = None
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)
