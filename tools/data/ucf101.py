r"""Write the annotation files of UCF101 from its official splits.

From the split files (classInd.txt, trainlist01.txt, ..., testlist03.txt) and
the clips in their class folders, which stay where they are:

    python tools/data/ucf101.py --splits ucfTrainTestlist \
        --videos data/ucf101/videos --out data/ucf101

Written, as mmaction2 names them: ucf101_{train,val}_split_{1,2,3}_videos.txt
(path, blank, label from 0), and classes.txt (name of each label, in the order
of classInd.txt), unusable.txt (list, path, class, reason).
"""

import argparse
from pathlib import Path

from cgnl_mm.cli import require_writable, run
from cgnl_mm.datasets.prepare.ucf101 import OUT, VIDEOS, prepare_ucf101


def main(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    option = parser.add_argument
    option(
        '--splits',
        type=Path,
        required=True,
        help='folder of classInd.txt, trainlist0N.txt and testlist0N.txt',
    )
    option('--videos', type=Path, default=VIDEOS, help='default: %(default)s')
    option('--out', type=Path, default=OUT, help='default: %(default)s')
    args = parser.parse_args(argv)
    require_writable(args.out, '--out')
    prepare_ucf101(args)


if __name__ == '__main__':
    run(main)
