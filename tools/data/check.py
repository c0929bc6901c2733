"""Look for files that a config's data sets cannot read, before it trains.

    python tools/data/check.py configs/i3d_r50_cgnl_minikinetics.py
    python tools/data/check.py CONFIG --splits train --out broken.txt

Every file is decoded whole, every frame of a folder, in several processes: a
file that crashes its decoder is named as well. Ends with status 1 if one is
missing or broken, and lists them in --out: PATH<tab>REASON. A ' precedes a
field that begins with = + - or @, which a spreadsheet would take for a
formula. Remote files (s3://, http://) are counted, not checked. Training goes
on past the files with `custom_hooks=[dict(type='UnreadableDataHook')]`.
"""

import argparse
import sys
from pathlib import Path

from cgnl_mm.cli import (
    add_model_options,
    load_config,
    require_data,
    require_writable,
    run,
)
from cgnl_mm.datasets.prepare.check import SPLITS, check_data


def main(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add_model_options(parser)
    add = parser.add_argument
    every = dict(nargs='+', choices=SPLITS, default=SPLITS)
    add('--splits', help='default: all', **every)
    add('--out', type=Path, metavar='FILE', help='list of the broken files')
    args = parser.parse_args(argv)
    if args.out:
        require_writable(args.out, '--out', folder=False)
    cfg = load_config(args.config, args.cfg_options)
    require_data(cfg, args.splits)
    sys.exit(check_data(cfg, args))


if __name__ == '__main__':
    run(main)
