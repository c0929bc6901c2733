r"""Write the annotation files of Mini-Kinetics-200.

From the two id lists of github.com/s9xie/Mini-Kinetics-200, the csv files of
Kinetics-400 and a folder of its clips (any depth; the clips stay where they
are):

    python tools/data/minikinetics.py --ids Mini-Kinetics-200 \
        --csv train.csv validate.csv --videos data/kinetics400 \
        --out data/minikinetics

Written: train.txt and val.txt (path<tab>label), classes.txt (name of each
label; sorted, so the labels are the same everywhere), unusable.txt (list,
id, class, reason; a ' precedes an id that begins with a dash, which a
spreadsheet would take for a formula). Many clips are gone today: what is
missing is counted and listed, and is no error.
"""

import argparse
from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.minikinetics import (
    ID_LISTS,
    OUT,
    VIDEOS,
    prepare_minikinetics,
)


def main(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    option = parser.add_argument
    option(
        '--ids',
        type=Path,
        required=True,
        help=f'folder of the id lists: {", ".join(ID_LISTS.values())}',
    )
    option(
        '--csv',
        type=Path,
        nargs='+',
        required=True,
        help='csv files of Kinetics-400: train and validate',
    )
    option('--videos', type=Path, default=VIDEOS, help='default: %(default)s')
    option('--out', type=Path, default=OUT, help='default: %(default)s')
    args = parser.parse_args(argv)
    require_writable(args.out, '--out')
    prepare_minikinetics(args)


if __name__ == '__main__':
    run(main)
