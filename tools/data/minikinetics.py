r"""Write the annotation files of Mini-Kinetics-200.

From the two id lists of github.com/s9xie/Mini-Kinetics-200, the csv files of
Kinetics-400 and a folder of its clips (any depth; the clips stay where they
are):

    python tools/data/minikinetics.py --ids Mini-Kinetics-200 \
        --csv train.csv validate.csv --videos data/kinetics400 \
        --out data/minikinetics

In mmaction2's layout of Kinetics-400 the labels are already there. Without
--csv they are taken from kinetics400_{train,val}_list_videos.txt in the folder
of the clips or, without these, from the names of the class folders.

Written: train.txt and val.txt (path<tab>label), classes.txt (name of each
label; sorted, so the labels are the same everywhere), unusable.txt (split,
id, class, reason; a ' precedes an id that begins with a dash, which a
spreadsheet would take for a formula). Many clips are gone today: what is
missing is counted and listed, and is no error.
"""

from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.files import add_options, add_path, make_parser
from cgnl_mm.datasets.prepare.minikinetics import (
    ID_LISTS,
    OUT,
    VIDEOS,
    prepare_minikinetics,
)


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument(
        '--ids',
        type=Path,
        required=True,
        help=f'folder of the id lists: {", ".join(ID_LISTS.values())}',
    )
    parser.add_argument(
        '--csv',
        type=Path,
        nargs='+',
        help='csv files of Kinetics-400: train and validate; without them '
        "the labels are those of mmaction2's lists or class folders",
    )
    add_path(parser, '--videos', VIDEOS, 'folder of the clips')
    add_path(parser, '--out', OUT, 'folder to write to')
    add_options(parser, decode=False, what='the first frame of each clip')
    args = parser.parse_args(argv)
    require_writable(args.out, '--out')
    prepare_minikinetics(args)


if __name__ == '__main__':
    run(main)
