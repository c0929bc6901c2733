"""What train.py and test.py share: options, config, errors.

Importing it puts the repository on ``sys.path``, so that the tools run from
a checkout that was never installed.
"""

import argparse
import errno
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from _config_checks import LOADERS, find_mistakes
from _config_errors import config_message
from _config_file import read_config_file

# Before torch is imported. On a CPU that is shared, with the data loaders or
# with somebody else, threads that spin while they wait made training 50 times
# slower (2 cores, one of them taken).
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

# mmengine's and mmcv's, at every start of every process
warnings.filterwarnings('ignore', 'pkg_resources is deprecated')

ROOT = Path(__file__).resolve().parents[1]
WORKER_DIED = re.compile(
    r'DataLoader worker \(.*?\) (is killed by signal: \w[\w ]*'
    r'|exited unexpectedly)'
)
# gloo's and NCCL's words
PEER_LOST = re.compile(
    r'Timed out waiting \d+ ?ms|Connection (closed|reset) by peer'
    r'|ncclRemoteError|NCCL communicator was aborted'
)
sys.path.insert(0, str(ROOT))


def run(main: Callable[[], None]) -> None:
    """Run a tool; what the user can put right ends it in one line.

    A :class:`cgnl_mm.errors.SetupError` is printed without a traceback, and
    the process exits with status 2, as after a wrong option. Every other
    exception is a fault and keeps its traceback.

    Args:
        main (Callable): The tool.
    """
    try:
        main()
    except Exception as error:
        message = setup_message(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)


def setup_message(error: BaseException) -> str | None:
    """Find what the user has to put right behind ``error``.

    MMEngine raises an ImportError of its own over the one of a module that a
    config names, and the DataLoader pastes a worker's traceback into a new
    exception of the same type: both hide the message.

    Args:
        error (BaseException): What ended the tool.

    Returns:
        str | None: The message; None when ``error`` is a fault.
    """
    if isinstance(error, ModuleNotFoundError) and error.name in (
        'mmengine',
        'numpy',
        'pkg_resources',
        'torch',
    ):
        return (
            f'{error.name} is not installed here. Activate the environment '
            '(`. .venv/bin/activate` after `make demo`), or run '
            "`pip install -e '.[all,lite]' -c requirements/constraints.txt`"
        )
    # not imported by name: it is the import of cgnl_mm that may have failed
    errors = sys.modules.get('cgnl_mm.errors')
    while errors is not None and error is not None:
        if isinstance(error, errors.SetupError):
            kind = f'{type(error).__module__}.{type(error).__qualname__}: '
            return str(error).rpartition(kind)[2].strip()
        if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):
            return f'{error}. Make room and start again'
        died = WORKER_DIED.match(str(error))
        if died and 'Bus error' in f'{error} {error.__cause__}':
            return (
                'a process of the data loader died of a bus error: shared '
                'memory ran out. Give /dev/shm more (`docker run --shm-size`, '
                '64 MB there by default), or lower num_workers'
            )
        if died:
            return (
                f'a process of the data loader {died[1].strip()}. Either '
                'memory ran out: lower num_workers or batch_size. Or a '
                'decoder crashed on a broken file: `python '
                'tools/data/check.py CONFIG` names it'
            )
        lost = PEER_LOST.search(str(error))
        if lost and isinstance(error, RuntimeError):
            return (
                'another process of the training has ended, or does not '
                f'answer ({lost[0]}); if it ended, its own output says why. '
                'How long to wait, in seconds: '
                'env_cfg.dist_cfg.timeout'
            )
        message = config_message(error)
        if message is not None:
            return message
        # an error while handling another one is a fault, unless it is the
        # ImportError over an ImportError
        wraps = isinstance(error, ImportError)
        error = error.__cause__ or (error.__context__ if wraps else None)
    return None


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options KEY=VALUE ...``; SetupError for other forms."""
    from mmengine.config import DictAction

    class KeyValueAction(DictAction):
        def __call__(self, parser, namespace, values, option_string=None):
            from cgnl_mm.errors import SetupError

            for value in values:
                key, equals, _ = value.partition('=')
                if not key or not equals:
                    raise SetupError(
                        f'{option_string} takes KEY=VALUE, got {value!r}'
                    )
            try:
                super().__call__(parser, namespace, values, option_string)
            except AssertionError as error:
                raise SetupError(
                    f'{option_string} {" ".join(values)}: {error}'
                ) from error

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='change settings of the config: a.b=1 c="[x,y]" d="[(1,2)]" '
        '(quotes around lists, no white space inside)',
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the hosts' train.py and test.py have in common."""
    parser.add_argument(
        '--work-dir',
        help="folder for logs and checkpoints; default: the config's, "
        'or work_dirs/<name of the config>',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='switch pin_memory of the data loaders off',
    )
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torchrun sets the variable; older launchers pass the option
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def merge_options(cfg, options) -> None:
    """Merge ``--cfg-options`` into a config; say which keys are new.

    Raises:
        SetupError: They cannot be merged.
    """
    from cgnl_mm.errors import SetupError

    options = options or {}
    new = [key for key in options if not _has_key(cfg, key)]
    if new:
        print(
            f'note: --cfg-options adds {", ".join(new)}: the config had no '
            'such key',
            file=sys.stderr,
        )
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise SetupError(f'--cfg-options: {error.args[0]}') from error


def load_config(args: argparse.Namespace):
    """Read the config, check that its host is there, merge the options.

    Args:
        args (Namespace): With ``config`` and :func:`add_common_options`.

    Returns:
        Config: The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        SetupError: The config does not exist or cannot be merged.
        MissingHostError: mmcv or the config's host is not installed.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config_file(args.config)
    from cgnl_mm.errors import SetupError

    cfg.launcher = args.launcher
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.utils import setup_cache_size_limit_of_dynamo

        setup_cache_size_limit_of_dynamo()

    merge_options(cfg, args.cfg_options)
    for mistake in find_mistakes(cfg):
        raise SetupError(mistake)
    # after the options: persistent workers depend on num_workers
    _set_loader_defaults(cfg, pin_memory=not args.no_pin_memory)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename).stem)
    return cfg


def require_file(path: str, option: str) -> None:
    """Raise SetupError unless ``path``, given as ``option``, can be read.

    Args:
        path (str): A file; a URL (``https://...``, ``s3://...``) passes.
        option (str): What the user calls it.
    """
    from cgnl_mm.errors import SetupError

    if '://' not in path and not os.path.isfile(path):
        raise SetupError(f'{option}: no file {path!r} in {os.getcwd()}')


def require_whole(path: str, option: str = '') -> None:
    """Raise SetupError if the local checkpoint ``path`` is damaged."""
    from cgnl_mm.checkpoints import find_fault
    from cgnl_mm.errors import SetupError

    fault = find_fault(path) if '://' not in path else None
    if fault:
        way_out = (
            f'. `{option}` without a path takes the last whole checkpoint of '
            'the work folder'
        )
        raise SetupError(
            f'{option or "checkpoint"}: {path!r} cannot be read: {fault}'
            + (way_out if option else '')
        )


def build_runner(cfg):
    """Build the Runner, or the one that ``runner_type`` names.

    FSDP runs in the process group of a launcher only; a single process takes
    the same config without it.

    Args:
        cfg (Config): What :func:`load_config` returned.

    Returns:
        Runner: Ready for ``train()`` or ``test()``.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    if isinstance(cfg.get('load_from'), str):
        require_file(cfg.load_from, 'load_from')
    strategy = cfg.get('strategy') or {}
    if cfg.launcher == 'none' and strategy.get('type') == 'FSDPStrategy':
        print(
            'note: one process has nothing to shard, so FSDPStrategy is left '
            'out; tools/dist_train.sh starts several',
            file=sys.stderr,
        )
        cfg.strategy = None
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def _has_key(cfg, key: str) -> bool:
    """Whether the dotted ``key`` ('a.b.0.c') leads to something in cfg."""
    for part in key.split('.'):
        if isinstance(cfg, (list, tuple)):
            if not part.isdigit() or int(part) >= len(cfg):
                return False
            cfg = cfg[int(part)]
        elif hasattr(cfg, 'keys') and part in cfg.keys():
            cfg = cfg[part]
        else:
            return False
    return True


def _set_loader_defaults(cfg, pin_memory: bool) -> None:
    """Complete the data loaders as mmpretrain's own tools do.

    mmpretrain's models take collated batches, MMEngine's default for the
    others is a list, and only mmpretrain's tools set the former.
    """
    import torch

    for name in LOADERS:
        loader = cfg.get(name)
        if loader is None:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
            # the DataLoader refuses True without workers
            loader.setdefault(
                'persistent_workers', loader.get('num_workers', 0) > 0
            )
        if not pin_memory:
            loader.pin_memory = False
