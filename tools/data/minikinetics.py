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

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.datasets.prepare.minikinetics import (
    ID_LISTS,
    OUT,
    VIDEOS,
    prepare_minikinetics,
)


def main(argv=None) -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('--ids', type=Path, required=True,
        help=f'folder of the id lists: {", ".join(ID_LISTS.values())}')
    add('--csv', type=Path, nargs='+', required=True,
        help='csv files of Kinetics-400: train and validate')
    add('--videos', type=Path, default=VIDEOS, help='default: %(default)s')
    add('--out', type=Path, default=OUT, help='default: %(default)s')
    # fmt: on
    args = parser.parse_args(argv)
    cli.require_writable(args.out, '--out')
    prepare_minikinetics(args)


if __name__ == '__main__':
    cli.run(main)
