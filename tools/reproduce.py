"""Train a grid of configs with several seeds, and compare them fairly.

    python tools/reproduce.py configs/grids/digits.yaml
    python tools/reproduce.py configs/grids/cub.yaml --gpus 0 1 2 3

configs/grids/README.md tells what a run is and what the report holds.
"""

import sys
from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.experiments.experiment import Experiment
from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.experiments.pool import choose_devices


def main() -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('grid', help='a file of configs/grids')
    add('--jobs', type=int,
        help='runs at a time; default: 1, or one for each of --gpus')
    add('--gpus', nargs='+', metavar='N', help='numbers of the GPUs to use')
    add('--only', metavar='REGEX', default='',
        help="train only runs whose name, such as 'cgnl/seed_0', matches")
    add('--seeds', nargs='+', type=int, help="instead of the grid's")
    add('--report-only', action='store_true', help='train nothing')
    add('--work-dir', type=Path, help='default: work_dirs/<name of the grid>')
    # fmt: on
    args = parser.parse_args()
    devices = choose_devices(args.gpus, args.jobs)
    grid = read_grid(args.grid, args.seeds)
    cells = grid.cells.items()
    configs = {n: cli.load_config(c.config, c.options, True) for n, c in cells}
    root = args.work_dir or Path('work_dirs') / grid.name
    experiment = Experiment(grid, configs, root, args.only)
    cli.require_writable(root, '--work-dir')
    runs = [] if args.report_only else experiment.to_train()
    loaders = ('train', 'val', 'test')[: 3 if grid.test else 2]
    for cell in {item.cell.name for item in runs}:
        cli.require_data(configs[cell], loaders)
    sys.exit(experiment.run(devices, runs))


if __name__ == '__main__':
    cli.run(main)
