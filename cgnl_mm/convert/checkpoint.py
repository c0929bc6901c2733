"""Whole checkpoints: every key is accounted for, or an error names it."""

from typing import Dict, Mapping, Tuple

import torch
from torch import Tensor

from .author import BIASES
from .mmaction import convert_non_local, places_of
from .names import BACKBONE, TARGETS, Table, Target, rename
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
    """Convert a checkpoint of the author's code or mmaction2 to ours.

    ========================  ==========================================
    from                      to
    ========================  ==========================================
    author, classification    'mmpretrain', or (backbone) 'mmdet'
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
        target (str): 'mmpretrain', 'mmdet' or 'mmaction'.
            Defaults to 'mmpretrain'.
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
    return convert_tensors(read_tensors(checkpoint), target, backbone_only)


def convert_tensors(
    state: Dict[str, Tensor], target: str, backbone_only: bool
) -> Dict[str, Tensor]:
    """Convert what :func:`read_tensors` returned; see convert_checkpoint."""
    if target == 'mmaction':
        state = convert_non_local(state)
        part = 'backbone.' if backbone_only else ''
        return {k: v for k, v in state.items() if k.startswith(part)}
    written, network = find_target(target, backbone_only), recognise(state)
    converted, lost = _rename_all(state, network.table, written.table)
    if lost and not backbone_only:
        raise ConversionError(
            f'{written.host} has no place for {listed(lost)}; '
            'backbone_only=True (--backbone-only) leaves the classifier out'
        )
    for bias in BIASES.get(network.block, ()):
        name = f'backbone.{network.block_path}.{bias}'
        converted.setdefault(name, torch.zeros(8 * network.width))
    load_strictly(converted, network, written)
    return converted


def recognise(state: Dict[str, Tensor]) -> Network:
    """Return the network of the author or torchvision that tensors are of.

    Raises:
        ConversionError: If they are of another one.
    """
    if places_of(state):
        raise ConversionError(
            'a network of mmaction2 with non_local can only be converted to '
            "'mmaction' (--to mmaction)"
        )
    if not any(key.startswith('layer1.') for key in state):
        raise ConversionError(
            'not a ResNet by the names of the author or torchvision (names '
            f'with backbone. need no conversion): {listed(list(state))}'
        )
    return find_network({k: v.shape for k, v in state.items()})


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


def find_target(target: str, backbone_only: bool) -> Target:
    """Return the names to write; see :func:`convert_checkpoint`."""
    if target not in TARGETS:
        raise ConversionError(
            f'nothing can be converted to {target!r}; '
            f'possible: {", ".join(TARGETS)}, mmaction'
        )
    found = TARGETS[target]
    return found._replace(table=BACKBONE) if backbone_only else found


def _rename_all(state: Dict[str, Tensor], *tables: Table) -> Tuple:
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
