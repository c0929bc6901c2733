"""Train a grid of configs with several seeds, and compare them fairly.

    python tools/reproduce.py configs/grids/digits.yaml
    python tools/reproduce.py configs/grids/cub.yaml --gpus 0 1 2 3

configs/grids/README.md tells what a run is and what the report holds.
"""

import argparse
import sys
from pathlib import Path

from cgnl_mm.cli import read_config_file, require_data, require_writable, run
from cgnl_mm.errors import MissingDataError
from cgnl_mm.experiments.experiment import Experiment
from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.experiments.pool import choose_devices


def parse_args(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a grid of configs and compare them',
        epilog='Options behind -- go to tools/train.py.',
    )
    add = parser.add_argument
    # fmt: off
    add('grid', help='a file of configs/grids')
    add('--jobs', type=int,
        help='runs at a time; default: 1, or one for each of --gpus')
    add('--gpus', nargs='+', metavar='N', help='numbers of the GPUs to use')
    add('--gpus-per-run', type=int, default=1, metavar='N',
        help='train each run on several GPUs (tools/dist_train.sh)')
    add('--only', metavar='REGEX', default='',
        help="train only runs whose name, such as 'cgnl/seed_0', matches")
    add('--seeds', nargs='+', type=int, help="instead of the grid's")
    add('--redo', action='store_true',
        help='train afresh what was trained with another config or does not '
        'agree with its log; the old folder is renamed')
    add('--report-only', action='store_true', help='train nothing')
    add('--progress', type=float, default=60.0, metavar='SECONDS',
        help='without a terminal: a line about progress so often; default: 60')
    add('--work-dir', type=Path, help='default: work_dirs/<name of the grid>')
    add('--out', type=Path, help='folder for the report; default: --work-dir')
    # fmt: on
    split = args.index('--') if '--' in args else len(args)
    parsed = parser.parse_args(args[:split])
    parsed.train_args = args[split + 1 :]
    return parsed


def main() -> None:
    args = parse_args(sys.argv[1:])
    devices = choose_devices(args.gpus, args.gpus_per_run, args.jobs)
    grid = read_grid(args.grid, args.seeds)
    configs = {n: read_config_file(c.config) for n, c in grid.cells.items()}
    root = args.work_dir or Path('work_dirs') / grid.name
    experiment = Experiment(
        grid, configs, root, args.only, args.redo, args.train_args,
        args.gpus_per_run,
    )  # fmt: skip
    out = args.out or root
    require_writable(out, '--out')
    if not args.report_only:
        require_writable(root, '--work-dir')
        loaders = ('train', 'val', 'test')[: 3 if grid.test else 2]
        for cell in {item.cell.name: None for item in experiment.to_train()}:
            try:
                require_data(configs[cell], loaders)
            except MissingDataError as error:
                raise MissingDataError(
                    f'nothing was started. Cell {cell}: {error}'
                ) from error
    sys.exit(experiment.run(devices, out, args.report_only, args.progress))


if __name__ == '__main__':
    run(main)
