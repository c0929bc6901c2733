"""Train a grid of configs with several seeds, and compare them fairly.

    python tools/reproduce.py configs/grids/digits.yaml
    python tools/reproduce.py configs/grids/cub.yaml --gpus 0 1 2 3
    python tools/reproduce.py configs/grids/cub.yaml --gpus 0 1 2 3 4 5 6 7 \\
        --gpus-per-run 8
    python tools/reproduce.py GRID --report-only
    python tools/reproduce.py GRID -- --auto-scale-lr

Every run is a process of tools/train.py. What is finished is not trained
again, what was interrupted goes on from its checkpoint, and a failed run does
not stop the others: start the same command again. Several machines that share
a disk can work on one grid: what another one trains is left to it, and the
last to end reports all. Options behind ``--`` go to tools/train.py.

Writes results.csv, results.md and results.png to the grid's folder. Exit
status: 0, 1 if a run failed or was refused, 2 for what has to be put right
first, 130 after Ctrl-C.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from cgnl_mm.cli import run
from cgnl_mm.hosts import HOME as ROOT

PACKAGES = (
    'torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain',
    'mmaction2', 'mmdet', 'numpy',
)  # fmt: skip
OWN_OPTIONS = ('--work-dir', '--seed', '--resume', '--cfg-options')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a grid of configs and compare them',
        epilog='Options behind -- go to tools/train.py.',
    )
    parser.add_argument('grid', help='a file of configs/grids')
    parser.add_argument(
        '--jobs',
        type=int,
        help='runs at a time; default: 1, or one for each of --gpus',
    )
    parser.add_argument(
        '--gpus', nargs='+', metavar='N', help='numbers of the GPUs to use'
    )
    parser.add_argument(
        '--gpus-per-run',
        type=int,
        default=1,
        metavar='N',
        help='train each run on several GPUs (tools/dist_train.sh)',
    )
    parser.add_argument(
        '--only',
        metavar='REGEX',
        help="train only runs whose name, such as 'cgnl/seed_0', matches",
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, help="instead of the grid's"
    )
    parser.add_argument(
        '--redo',
        action='store_true',
        help='train afresh what was trained with another config or does not '
        'agree with its log; the old folder is renamed',
    )
    parser.add_argument(
        '--report-only', action='store_true', help='train nothing'
    )
    parser.add_argument(
        '--progress',
        type=float,
        default=60.0,
        metavar='SECONDS',
        help='without a terminal: a line about progress so often; default: 60',
    )
    parser.add_argument(
        '--work-dir', type=Path, help='default: work_dirs/<name of the grid>'
    )
    parser.add_argument(
        '--out', type=Path, help='folder for the report; default: --work-dir'
    )
    args = sys.argv[1:]
    split = args.index('--') if '--' in args else len(args)
    parsed = parser.parse_args(args[:split])
    parsed.train_args = args[split + 1 :]
    return parsed


def devices_of(args: argparse.Namespace) -> list:
    """CUDA_VISIBLE_DEVICES of each run at a time; None: as it is.

    Raises:
        SetupError: Options that do not go together.
    """
    from cgnl_mm.errors import SetupError

    per_run = args.gpus_per_run
    if per_run < 1 or (args.jobs is not None and args.jobs < 1):
        raise SetupError('--jobs and --gpus-per-run count from 1')
    if args.gpus is not None:
        require_gpus(args.gpus)
    if args.gpus is None:
        return [None] * (args.jobs or 1)
    if len(args.gpus) % per_run:
        raise SetupError(
            f'--gpus names {len(args.gpus)}, which is no multiple of '
            f'--gpus-per-run {per_run}'
        )
    sets = [
        ','.join(args.gpus[start : start + per_run])
        for start in range(0, len(args.gpus), per_run)
    ]
    jobs = args.jobs or len(sets)
    # more jobs than sets share them
    return [sets[index % len(sets)] for index in range(jobs)]


def require_gpus(names: list) -> None:
    """Raise SetupError where numbers of GPUs are not those of this machine.

    A training that gets none runs on the CPU without a word.
    """
    import torch

    from cgnl_mm.errors import SetupError

    number = torch.cuda.device_count()
    missing = [n for n in names if n.isdigit() and int(n) >= number]
    if missing:
        raise SetupError(
            f'--gpus {" ".join(missing)}: PyTorch sees {number} GPUs here'
            + (f', 0 to {number - 1}' if number else '')
        )


def make_runs(grid, args, root: Path) -> tuple[list, dict]:
    """All runs, seed by seed, so that pairs are complete early.

    Returns:
        tuple[list, dict]: Runs, and the configs of the cells by name.

    Raises:
        SetupError: A config cannot be loaded or an option does not fit.
    """
    from cgnl_mm.errors import SetupError
    from cgnl_mm.experiments.grid import resolve
    from cgnl_mm.experiments.run import Run

    for option in args.train_args:
        name = option.split('=')[0]
        # argparse takes any beginning of a name
        if len(name) > 2 and any(own.startswith(name) for own in OWN_OPTIONS):
            raise SetupError(
                f'{option} behind -- is set by this tool; change configs by '
                "the grid's 'options'"
            )
    configs = {name: resolve(cell) for name, cell in grid.cells.items()}
    return [
        Run(
            grid,
            cell,
            seed,
            configs[name],
            root,
            args.train_args,
            args.gpus_per_run,
        )
        for seed in grid.seeds
        for name, cell in grid.cells.items()
    ], configs


def sort_runs(runs: list, args: argparse.Namespace) -> tuple[list, dict, dict]:
    """Runs to train, records that are there, and what is wrong with others.

    Returns:
        tuple[list, dict, dict]: Runs; records by (cell, seed); reasons by
        name.
    """
    from cgnl_mm.experiments.run import RunError

    todo, records, refused = [], {}, {}
    for item in runs:
        chosen = args.only is None or re.search(args.only, item.name)
        try:
            state = item.state()
        except RunError as error:
            if not (args.redo and chosen) or args.report_only:
                refused[item.name] = str(error)
                continue
            if not item.lock():
                refused[item.name] = f'{error}; another process has it now'
                continue
            old = item.set_aside()
            item.unlock()
            print(f'{item.name}: the old run is in {old}')
            state = 'new'
        if state == 'finished':
            records[item.cell.name, item.seed] = item.record()
        elif chosen:
            todo.append(item)
    return todo, records, refused


def require_cells(runs: list, configs: dict) -> None:
    """Raise MissingDataError where a cell's data is not there.

    Each run would end with the same words, after it had started a process.
    """
    from cgnl_mm.cli import require_data
    from cgnl_mm.errors import MissingDataError

    for name, item in {item.cell.name: item for item in runs}.items():
        loaders = ('train', 'val', *(['test'] if item.grid.test else []))
        try:
            require_data(configs[name], loaders, own=True)
        except MissingDataError as error:
            raise MissingDataError(
                f'nothing was started. Cell {name}: {error}'
            ) from error


def write_configs(runs: list, configs: dict) -> None:
    """Each cell's config as it is trained, in one file."""
    for item in runs:
        item.config.parent.mkdir(parents=True, exist_ok=True)
        configs[item.cell.name].dump(item.config)


def costs_of(
    grid, cells: list, configs: dict, root: Path, count: bool = True
) -> dict:
    """Parameters and FLOPs of each cell, by tools/get_flops.py, kept.

    Without ``count`` only those that are there.
    """
    from cgnl_mm.experiments.run import RunError, read_json, write_json

    costs = {}
    shape = ['--shape', *map(str, grid.shape)] if grid.shape else []
    for name in cells:
        cfg = configs[name]
        text = repr((cfg.model.to_dict(), cfg.test_dataloader, grid.shape))
        key = hashlib.sha256(text.encode()).hexdigest()
        path = root / name / 'cost.json'
        try:
            found = read_json(path) or {}
        except RunError:
            found = {}
        if found.get('key') != key:
            if not count:
                continue
            done = subprocess.run(
                [sys.executable, ROOT / 'tools' / 'get_flops.py']
                + [root / name / f'{name}.py', '--json', *shape],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ['?'])[-1]
                print(f'note: no FLOPs of {name}: {last}', file=sys.stderr)
                continue
            network = json.loads(done.stdout)['network']
            found = dict(
                key=key, params=network['params'], flops=network['flops']
            )
            write_json(path, found)
        costs[name] = found
    return costs


def environment(devices: list, args: argparse.Namespace) -> dict:
    """Versions and hardware."""
    import cgnl_mm
    from cgnl_mm.experiments.run import commit_of

    found = dict(cgnl_mm=cgnl_mm.__version__)
    commit = commit_of(ROOT)
    if commit:
        found['commit'] = commit
    found['Python'] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0))
    found['CPU'] = f'{_cpu()} ({cores} cores)'
    found['GPU'] = _gpu() or 'none'
    found['runs at a time'] = len(devices)
    if args.gpus_per_run > 1:
        found['GPUs per run'] = args.gpus_per_run
    found['threads'] = os.environ.get('OMP_NUM_THREADS', 'default')
    return found


def _output(*command) -> str:
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True
        )
    except OSError:
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    text = info.read_text() if info.is_file() else ''
    found = re.search(r'^model name\s*: (.*)$', text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _gpu() -> str:
    names = _output(
        'nvidia-smi', '--query-gpu=name', '--format=csv,noheader'
    ).splitlines()
    return ', '.join(
        f'{names.count(name)} x {name}' for name in dict.fromkeys(names)
    )


def main() -> None:
    args = parse_args()
    import dataclasses

    from rich.console import Console

    from cgnl_mm.errors import SetupError
    from cgnl_mm.experiments.grid import read_grid
    from cgnl_mm.experiments.pool import Pool
    from cgnl_mm.experiments.report import Results, plot

    if args.only is not None:
        try:
            re.compile(args.only)
        except re.error as error:
            raise SetupError(f'--only {args.only!r}: {error}') from error
    devices = devices_of(args)
    grid = read_grid(args.grid)
    if args.seeds:
        if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
            raise SetupError(f'--seeds {args.seeds}: each once, from 0 on')
        grid = dataclasses.replace(grid, seeds=args.seeds)
    root = args.work_dir or Path('work_dirs') / grid.name
    runs, configs = make_runs(grid, args, root)
    todo, records, failed = sort_runs(runs, args)
    console = Console()
    for name, reason in failed.items():
        console.print(
            f'REFUSED {name}: {reason}', markup=False, soft_wrap=True
        )
    interrupted = False
    if not args.report_only:
        console.print(
            f'{grid.name}: {len(runs)} runs, {len(records)} finished, '
            f'{len(todo)} to train'
        )
        require_cells(todo, configs)
        write_configs(todo, configs)
        # processes that share the cores must not each use all of them
        threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        os.environ.setdefault('OMP_NUM_THREADS', str(threads))
        pool = Pool(
            devices, environment(devices, args), console, args.progress
        )
        try:
            pool.train(todo)
        except KeyboardInterrupt:
            interrupted = True
        # as they are now: other processes may have trained some meanwhile
        args.redo = False
        _, records, failed = sort_runs(runs, args)
        failed = {**failed, **pool.failed}
        for item in pool.elsewhere:
            if (item.cell.name, item.seed) not in records:
                console.print(
                    f'{item.name}: left to another process; --report-only '
                    'makes the report once it has finished'
                )

    trained = dict.fromkeys(cell for cell, _ in records)
    out = args.out or root
    out.mkdir(parents=True, exist_ok=True)
    command = ['python', 'tools/reproduce.py', args.grid]
    if args.train_args:
        command += ['--', *args.train_args]
    results = Results(
        grid,
        records,
        failed,
        costs_of(grid, list(trained), configs, root, not interrupted),
        shlex.join(command),
    )
    for warning in results.warnings():
        console.print(f'warning: {warning}', markup=False, soft_wrap=True)
    results.write_csv(out / 'results.csv')
    (out / 'results.md').write_text(results.as_markdown(), encoding='utf-8')
    plot(results, out / 'results.png')
    console.print(
        f'{len(records)} of {len(runs)} runs are finished; report: '
        f'{out}/results.md, .csv, .png',
        soft_wrap=True,
    )
    if interrupted:
        console.print('interrupted: the same command goes on from here')
        sys.exit(130)
    if failed:
        for name, reason in failed.items():
            console.print(f'{name}: {reason}', markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == '__main__':
    run(main)
