"""Compare the labels of data sets with each other and with the network."""

import math
from collections.abc import Iterator

import numpy as np

from ..errors import SetupError, printable
from .decode import path_of
from .unreadable import leaves


def count_classes(model) -> int:
    """Return the largest ``num_classes`` of the heads in a model's config.

    Args:
        model (dict): The config.

    Returns:
        int: The number; 0 if no head has one.
    """
    return max(_numbers_of_classes(model, False), default=0)


def _numbers_of_classes(value, is_head: bool) -> Iterator[int]:
    if isinstance(value, (list, tuple)):
        for child in value:
            yield from _numbers_of_classes(child, is_head)
    elif isinstance(value, dict):
        for key, child in value.items():
            if is_head and key == 'num_classes' and isinstance(child, int):
                yield child
            yield from _numbers_of_classes(child, is_head or 'head' in key)


def check_labels(data_set, num_classes: int, split: str) -> list[str]:
    """Look for labels that the network does not have, or that contradict.

    Args:
        data_set (Dataset): A data set of a host, maybe in wrappers.
        num_classes (int): Of the network; 0: unknown.
        split (str): 'train', 'val' or 'test'. For 'test', -1 stands for an
            unknown label.

    Returns:
        list[str]: A warning if a list gives files different labels.

    Raises:
        SetupError: If the network does not have a label; a sample is named.
    """
    least, most = -1 if split == 'test' else 0, num_classes or math.inf
    first, contradicted = {}, {}
    for leaf in leaves(data_set):
        # a stranger's data set may be none of MMEngine's
        size = len(leaf) if hasattr(leaf, 'get_data_info') else 0
        for info in map(leaf.get_data_info, range(size)):
            labels = labels_of(info)
            one_label = not info.get('instances') and path_of(info)
            if getattr(leaf, 'ann_file', '') and one_label:
                # several clips may share a folder
                key = path_of(info), info.get('offset')
                if first.setdefault(key, labels) != labels:
                    contradicted[key[0]] = first[key], labels
            for label in labels:
                if not least <= label < most:
                    sample = printable(path_of(info) or 'a sample')
                    raise SetupError(
                        f'{split}_dataloader: the label of {sample} is '
                        f'{label}, and those of the network go from 0 to '
                        f'{most - 1} (num_classes)'
                    )
    if not contradicted:
        return []
    path, (one, other) = next(iter(contradicted.items()))
    return [
        f'{split}_dataloader: files that are listed again with other labels: '
        f'{len(contradicted)}, such as {printable(path)}: {one}, then {other}'
    ]


def labels_of(info: dict) -> list[int]:
    """Return the labels of a sample of one of the hosts."""
    label = info.get('gt_label', info.get('label'))
    if isinstance(label, int):
        return [label]
    if isinstance(label, (list, tuple, np.ndarray)):  # several
        return [x for x in np.ravel(label).tolist() if isinstance(x, int)]
    boxes = info.get('instances') or ()
    return [box['bbox_label'] for box in boxes if 'bbox_label' in box]


def compare_classes(data_sets: dict) -> list[str]:
    """Compare the classes of data sets that one network is to see.

    Args:
        data_sets (dict[str, Dataset | dict]): Data sets by split, or what a
            checkpoint holds in place of one. The first is what the others
            are compared with.

    Returns:
        list[str]: Warnings of other names.

    Raises:
        SetupError: If the numbers of classes differ.
    """
    warnings, (first, *others) = [], data_sets
    one = _classes_of(data_sets[first])
    for split in others:
        two = _classes_of(data_sets[split])
        if not one or not two or one == two:
            continue
        alone = sorted({*one} ^ {*two})[:5] or ['another order']
        what = (
            f'{first} has {len(one)} classes and {split} {len(two)}; they '
            f'differ in {printable(", ".join(alone))}'
        )
        if len(one) != len(two):
            raise SetupError(
                f'{what}. Their labels would not mean the same: a class '
                'without files needs its folder, too'
            )
        warnings.append(f'{what}: do their labels mean the same?')
    return warnings


def _classes_of(data_set) -> list[str]:
    classes = getattr(data_set, 'metainfo', data_set).get('classes')
    return [*map(str, classes)] if isinstance(classes, (list, tuple)) else []
