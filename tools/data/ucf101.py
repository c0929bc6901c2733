r"""Write the annotation files of UCF101 from its official splits.

From the split files (classInd.txt, trainlist01.txt, ..., testlist03.txt) and
the clips in their class folders, which stay where they are:

    python tools/data/ucf101.py --splits ucfTrainTestlist \
        --videos data/ucf101/videos --out data/ucf101

Written, as mmaction2 names them: ucf101_{train,val}_split_{1,2,3}_videos.txt
(path, blank, label from 0), and classes.txt (name of each label, in the order
of classInd.txt), unusable.txt (list, path, class, reason).
"""

from pathlib import Path

from cgnl_mm import cli
from cgnl_mm.datasets.prepare.ucf101 import OUT, VIDEOS, prepare_ucf101


def main(argv=None) -> None:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('--splits', type=Path, required=True,
        help='folder of classInd.txt, trainlist0N.txt and testlist0N.txt')
    add('--videos', type=Path, default=VIDEOS, help='default: %(default)s')
    add('--out', type=Path, default=OUT, help='default: %(default)s')
    # fmt: on
    args = parser.parse_args(argv)
    cli.require_writable(args.out, '--out')
    prepare_ucf101(args)


if __name__ == '__main__':
    cli.run(main)
