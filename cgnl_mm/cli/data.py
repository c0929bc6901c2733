"""Data that are not there, or broken, end in one line.

The loaders would end in a traceback, some only after a model was built.
Labels that mean something else would not end anything.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..datasets.labels import check_labels, compare_classes, count_classes
from ..datasets.prepare.annotations import (
    LINES,
    check_coco,
    check_list,
    read_json,
)
from ..datasets.unreadable import guard_loader
from ..errors import (
    MissingDataError,
    SetupError,
    UnreadableFileError,
    printable,
)
from ..hosts import HOSTS, dataset_class
from ..training.loaders import is_iter_based
from .lint import parameters_of

# Those that a script of tools/data writes lists for.
PREPARED = ('minikinetics', 'ucf101')


def require_data(cfg, loaders: 'tuple[str, ...]') -> None:
    """Check that the files a config reads from are there.

    Args:
        cfg (Config): A config.
        loaders (tuple[str, ...]): Which of 'train', 'val' and 'test'.

    Raises:
        MissingDataError: A folder or annotation file does not exist; the
            message names it and the script that prepares it.
        SetupError: An annotation file is broken; the place is named.
    """
    for loader in loaders:
        config = cfg.get(f'{loader}_dataloader') or {}
        for dataset in _innermost(config.get('dataset')):
            for path in _paths(dataset) if _only_reads(cfg, dataset) else ():
                if '://' not in str(path) and not os.path.exists(path):
                    raise MissingDataError(
                        f'{path} does not exist (seen from {os.getcwd()}), '
                        f'and {loader}_dataloader reads it. {_advice(path)}'
                    )
            _check_annotations(dataset, cfg, loader)


def _check_annotations(dataset: dict, cfg, loader: str) -> None:
    """Check the annotation file of a data set, warn of what is dropped."""
    root, path = dataset.get('data_root') or '', dataset.get('ann_file')
    path = Path(root, path) if isinstance(path, str) and path else None
    if path is None or '://' in f'{root} {dataset["ann_file"]}':
        return
    if not path.is_file():
        if path.exists():  # a pipe would never answer
            raise SetupError(f'ann_file: {str(path)!r} is not a file')
        return
    kind = dataset_class(cfg, dataset)
    bases = [x for x in kind.__mro__ if 'load_data_list' in vars(x)]
    reader = bases[0].__name__ if bases else ''
    if reader in LINES and dataset.get('with_label', True):
        separator = dataset.get('delimiter', ' ')
        several = dataset.get('multi_class', False)
        check_list(path, reader, separator, several, loader == 'test')
    elif reader == 'CocoDataset':
        names = (dataset.get('metainfo') or kind.METAINFO).get('classes')
        known = names if isinstance(names, (list, tuple)) else None
        dropped = check_coco(path, known, loader != 'test')
        if dropped:
            print(f'warning: {loader}_dataloader: {dropped}', file=sys.stderr)
    elif path.suffix == '.json':
        read_json(path)


def _only_reads(cfg, dataset: dict) -> bool:
    """Whether a data set is a host's, and downloads nothing."""
    kind = dataset_class(cfg, dataset)
    package = getattr(kind, '__module__', '').partition('.')[0]
    return package in HOSTS and 'download' not in parameters_of(kind)[0]


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


def _paths(dataset: dict) -> Iterator[str]:
    """What a data set reads: root, annotation file, folders of samples."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else prefix.values()
    if root:
        yield root
    for path in (dataset.get('ann_file'), *folders):
        if path and isinstance(path, str):  # '' where a list has whole paths
            yield os.path.join(root, path)


def _advice(path: str) -> str:
    """Name the script of tools/data whose data set is in ``path``."""
    for script in PREPARED:
        if script in path.lower():
            return (
                f'`python tools/data/{script}.py --help` tells how to prepare '
                'it'
            )
    return (
        'configs/README.md tells where each config looks, and what prepares it'
    )


class DataHook(Hook):
    """Check labels before a run, and name a file that cannot be read.

    Args:
        meta (dict | None): The ``dataset_meta`` of a checkpoint to test.
    """

    def __init__(self, meta: 'dict | None' = None) -> None:
        self.meta = meta or {}

    def before_train(self, runner: Runner) -> None:
        loops = dict(train=runner.train_loop, val=runner.val_loop)
        self._check(runner, loops)
        if not is_iter_based(runner) and not len(runner.train_dataloader):
            raise SetupError(
                'train_dataloader: fewer samples than batch_size and '
                'drop_last=True leave no batch to train on'
            )

    def before_test(self, runner: Runner) -> None:
        self._check(runner, dict(test=runner.test_loop))
        guard_loader(runner.test_dataloader)

    def before_train_epoch(self, runner: Runner) -> None:
        # behind UnreadableDataHook, which skips such a file
        guard_loader(runner.train_dataloader, refuse_unreadable)

    def before_val(self, runner: Runner) -> None:
        guard_loader(runner.val_dataloader)

    def _check(self, runner: Runner, loops: dict) -> None:
        found = {
            name: loop.dataloader.dataset
            for name, loop in loops.items()
            if hasattr(loop, 'dataloader')
        }
        number, warnings = count_classes(runner.cfg.get('model')), []
        for split, data_set in found.items():
            warnings += check_labels(data_set, number, split)
        known = {'the checkpoint': self.meta} if self.meta else {}
        warnings += compare_classes({**known, **found})
        for warning in warnings:
            runner.logger.warning(warning)


def refuse_unreadable(path: str, reason: str) -> None:
    """Raise UnreadableFileError for a file of a training."""
    raise UnreadableFileError(
        f'{printable(path)}: {printable(reason)}. Repair the file, take it '
        'out of the annotation file, or train on past it by '
        "custom_hooks=[dict(type='UnreadableDataHook')]"
    )
