"""Whole checkpoints: every key is accounted for, or an error names it."""

from typing import Dict, Mapping, Tuple

import torch
from torch import Tensor

from .mmaction import convert_non_local, places_of
from .names import (
    AUTHOR,
    MMPRETRAIN,
    MMPRETRAIN_BACKBONE,
    TARGETS,
    Code,
    Table,
    backwards,
    rename,
)
from .network import (
    ConversionError,
    Network,
    find_network,
    listed,
    load_strictly,
)


def convert_checkpoint(
    checkpoint: Mapping,
    target: str = 'mmpretrain',
    backbone_only: bool = False,
) -> Dict[str, Tensor]:
    """Convert a checkpoint between the author's code and this project.

    ========================  ==========================================
    from                      to
    ========================  ==========================================
    author, classification    'mmpretrain', or (backbone) 'mmdet'
    mmpretrain                'author'
    mmaction2, ``non_local``  'mmaction', for ``plugins``
    ========================  ==========================================

    The author's block takes a number among the units of ``layer3``; here the
    unit behind it gets its own number back. The config has to say what the
    weights do not tell: CGNL or CGNLx (the kernel), and the stride of the
    units. The names and shapes have to be those of the model that a config of
    this project builds, so its host has to be installed.

    Args:
        checkpoint (Mapping): What ``torch.load`` returns: a state dict, or
            one under 'state_dict'. Each ``module.`` of
            DataParallel is removed. ResNets of torchvision have the author's
            names, too.
        target (str): 'mmpretrain', 'mmdet', 'mmaction' or 'author' (without
            ``module.``). Defaults to 'mmpretrain'.
        backbone_only (bool): Whether to leave out what is not a part of the
            backbone and has no counterpart: the classifier.
            Defaults to False.

    Returns:
        dict[str, Tensor]: State dict of the target. Tensors are shared with
        the checkpoint where nothing changes.

    Raises:
        ConversionError: If it is not such a checkpoint, a value is not
            finite, or keys are missing, unknown, of another shape, or would
            be lost. The message names the first ones.
        MissingHostError: If the host of the model is not installed.
    """
    if target == 'mmaction':
        state = convert_non_local(read_tensors(checkpoint))
        part = 'backbone.' if backbone_only else ''
        return {k: v for k, v in state.items() if k.startswith(part)}
    state, source, network = read_state_dict(checkpoint)
    written = find_target(source, target, backbone_only)
    tables: Tuple[Table, ...] = (source.table, network.table)
    tables += (backwards(written.table),)
    if written is AUTHOR:
        load_strictly(state, network, source)
        tables = (source.table, backwards(network.table))
    converted, lost = _rename_all(state, tables)
    hint = 'backbone_only=True (--backbone-only) leaves the classifier out'
    if written is AUTHOR:
        hint = "the author's NL block has no biases"
        lost = [key for key in lost if state[key].any()]
    if lost and not backbone_only:
        raise ConversionError(
            f'{written.name} has no place for {listed(lost)}; {hint}'
        )
    if written is not AUTHOR:
        for theirs, plain in network.table:
            if theirs is None and plain is not None:
                name = rename(plain, backwards(written.table))
                converted.setdefault(name, torch.zeros(8 * network.width))
        load_strictly(converted, network, written)
    return converted


def read_state_dict(
    checkpoint: Mapping,
) -> Tuple[Dict[str, Tensor], Code, Network]:
    """Find the state dict in a checkpoint, whose names it has, what it holds.

    Returns:
        tuple[dict[str, Tensor], Code, Network]: The state dict is without
        DataParallel's prefix.

    Raises:
        ConversionError: If it is not such a checkpoint.
    """
    state = read_tensors(checkpoint)
    codes = [
        c for c in TARGETS if any(key.startswith(c.mark) for key in state)
    ]
    if not codes:
        raise ConversionError(
            'not a ResNet of the author, torchvision or mmpretrain: '
            f'{listed(list(state))}'
        )
    if places_of(state):
        raise ConversionError(
            'a network of mmaction2 with non_local can only be converted to '
            "'mmaction' (--to mmaction)"
        )
    table = codes[0].table
    shapes = {
        name: value.shape
        for key, value in state.items()
        if (name := rename(key, table)) is not None
    }
    return state, codes[0], find_network(shapes)


def read_tensors(checkpoint: Mapping) -> Dict[str, Tensor]:
    """Find the state dict in a checkpoint, and remove DataParallel's prefix.

    Raises:
        ConversionError: If there is none, or a value is not finite.
    """
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else {}
    if isinstance(state.get('state_dict'), Mapping):
        state = dict(state['state_dict'])
    other = [
        str(key)
        for key, value in state.items()
        if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if other or not state:
        raise ConversionError(
            'not a checkpoint: expected a state dict, or a dict with one '
            f"under 'state_dict'; not tensors are {listed(other)}"
        )
    while all(key.startswith('module.') for key in state):
        state = {key[len('module.') :]: v for key, v in state.items()}
    broken = [key for key, v in state.items() if not v.isfinite().all()]
    if broken:
        raise ConversionError(f'values are not finite in {listed(broken)}')
    return state


def find_target(source: Code, target: str, backbone_only: bool) -> Code:
    """Return the names to write; see :func:`convert_checkpoint`."""
    written = TARGETS[source].get(target)
    if written is None or (backbone_only and written is AUTHOR):
        alone = ' (the backbone alone)' if backbone_only else ''
        raise ConversionError(
            f'from {source.name} to {target!r}{alone} cannot be converted; '
            f'possible: {", ".join(TARGETS[source])}'
        )
    if backbone_only and written is MMPRETRAIN:
        return MMPRETRAIN_BACKBONE
    return written


def _rename_all(state: Dict[str, Tensor], tables: Tuple[Table, ...]) -> Tuple:
    """Return the tensors by their new names, and the keys that have none."""
    converted: Dict[str, Tensor] = {}
    lost = []
    for key, value in state.items():
        name = rename(key, *tables)
        if name is None:
            lost.append(key)
        elif not torch.equal(converted.setdefault(name, value), value):
            raise ConversionError(
                f'{key} differs from another tensor that becomes {name}'
            )
    return converted, lost
