"""A data set that is not there ends in one line, before a model is built.

Our own data sets say themselves what is missing; for those of the hosts the
loaders would end in a traceback, some only after a model was built.
"""

import os
from collections.abc import Iterator
from pathlib import Path

STOCK = (
    'CUB',
    'CityscapesDataset',
    'CocoDataset',
    'ImageNet',
    'VideoDataset',
)


def require_data(cfg, loaders: 'tuple[str, ...]') -> None:
    """Check that the files a config reads from are there.

    Args:
        cfg (Config): A config.
        loaders (tuple[str, ...]): Which of 'train', 'val' and 'test'.

    Raises:
        MissingDataError: A folder or annotation file does not exist; the
            message names it and the script that prepares it.
    """
    from cgnl_mm.errors import MissingDataError

    for loader in loaders:
        config = cfg.get(f'{loader}_dataloader') or {}
        for dataset in _innermost(config.get('dataset')):
            for path in _paths(dataset):
                if '://' not in path and not os.path.exists(path):
                    raise MissingDataError(
                        f'{path} does not exist (seen from {os.getcwd()}), '
                        f'and {loader}_dataloader reads it. {_advice(path)}'
                    )


def _innermost(dataset) -> Iterator[dict]:
    """The stock data sets inside RepeatDataset, ConcatDataset and the like."""
    if isinstance(dataset, (list, tuple)):
        for child in dataset:
            yield from _innermost(child)
    elif isinstance(dataset, dict):
        if str(dataset.get('type')).split('.')[-1] in STOCK:
            yield dataset
        yield from _innermost(dataset.get('dataset'))
        yield from _innermost(dataset.get('datasets'))


def _paths(dataset: dict) -> Iterator[str]:
    """What a data set reads: root, annotation file, folders of samples."""
    root = dataset.get('data_root') or ''
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
    for script in sorted(Path(__file__).with_name('data').glob('[a-z]*.py')):
        if script.stem in path.lower():
            return (
                f'`python tools/data/{script.name} --help` tells how to '
                'prepare it'
            )
    return 'configs/README.md tells where each config looks'
