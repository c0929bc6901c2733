"""Mini-Kinetics-200 of mmaction2's Kinetics-400 files."""

import os.path as osp

from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS

from ..errors import MissingDataError


@DATASETS.register_module()
class MiniKinetics(VideoDataset):
    """Mini-Kinetics-200: 200 classes of Kinetics-400, 80k and 5k clips.

    Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018; id
    lists: github.com/s9xie/Mini-Kinetics-200. ``tools/data/minikinetics.py``
    writes, from those lists, the Kinetics-400 csv files and a folder of
    clips::

        data/minikinetics/{train,val}.txt    PATH<tab>LABEL, relative paths
        data/minikinetics/classes.txt        200 names, sorted: the labels
        data/kinetics400/.../ID_START_END.mp4    the clips, as they are

    Args:
        pipeline (list): Transforms.
        split (str): 'train' or 'val'. Defaults to 'train'.
        data_root (str): Folder of the lists. Defaults to 'data/minikinetics'.
        video_root (str): Folder of the clips. Defaults to 'data/kinetics400'.
        **kwargs: Other arguments of VideoDataset (``test_mode``, ...).

    Raises:
        MissingDataError: If a list or the folder of clips does not exist.
    """

    def __init__(
        self,
        pipeline: list,
        split: str = 'train',
        data_root: str = 'data/minikinetics',
        video_root: str = 'data/kinetics400',
        **kwargs,
    ) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        ann_file = osp.join(data_root, f'{split}.txt')
        class_file = osp.join(data_root, 'classes.txt')
        for path in (ann_file, class_file, video_root):
            if not osp.exists(path):
                raise MissingDataError(
                    f'{path} does not exist (seen from {osp.abspath(".")}). '
                    'Get the clips of Kinetics-400, its csv files, and the '
                    'id lists of github.com/s9xie/Mini-Kinetics-200, then '
                    'run:\n'
                    '  python tools/data/minikinetics.py --ids LISTS_DIR '
                    f'--csv train.csv validate.csv --videos {video_root} '
                    f'--out {data_root}'
                )
        with open(class_file, encoding='utf-8') as file:
            classes = file.read().splitlines()
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline,
            data_prefix=dict(video=video_root),
            metainfo=dict(classes=classes),
            delimiter='\t',  # class folders may have blanks in their names
            **kwargs,
        )
