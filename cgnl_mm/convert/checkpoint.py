"""Whole checkpoints, strictly: every key is accounted for, or an error."""

from typing import Dict, Mapping, Optional, Set, Tuple

import torch
from torch import Tensor

from .layouts import (
    AUTHOR,
    MASKRCNN_BENCHMARK,
    MMDET,
    MMDET_C4,
    MMPRETRAIN,
    Layout,
)
from .network import ConversionError, Network
from .reading import (
    describe,
    listed,
    names_of_keys,
    recognise,
    state_dict_of,
)

EPS = 1e-5  # of mmdet's BatchNorm


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
    maskrcnn-benchmark C4     'mmdet': backbone and shared_head
    mmpretrain                'author'
    ========================  ==========================================

    The author's block takes a number among the units of ``layer3``; here the
    unit behind it gets its own number back. What the weights do not tell, the
    config has to: CGNL or CGNLx (the kernel), and the stride of the units.

    maskrcnn-benchmark's frozen BatchNorm adds no eps: running variances
    become less by mmdet's, so that the outputs stay the same.

    Args:
        checkpoint (Mapping): What ``torch.load`` returns: a state dict, or
            one under 'state_dict' or 'model'; ``module.`` of DataParallel is
            removed. torchvision's ResNets have the author's names, too.
        target (str): 'mmpretrain', 'mmdet' or 'author' (without
            ``module.``). Defaults to 'mmpretrain'.
        backbone_only (bool): Whether to leave out what is no part of the
            backbone and has no counterpart: the classifier, or RPN, box and
            mask heads. Defaults to False.

    Returns:
        dict[str, Tensor]: State dict of the target. Tensors are shared with
        the checkpoint where nothing changes.

    Raises:
        ConversionError: If it is no such checkpoint, or keys are missing,
            unknown, of another shape, or would be lost; all are listed.
    """
    state = state_dict_of(checkpoint)
    source = recognise(state)
    written = _written(source, target)
    if target == 'author' and backbone_only:
        raise ConversionError(
            "the author's code has a classifier: backbone_only cannot be "
            "combined with target='author'"
        )
    network = describe(state, source)
    names = names_of_keys(state, source, network)
    lost = _without_place(names, written, backbone_only)

    converted, nonzero = {}, []
    for key, name in names.items():
        if key in lost:
            continue
        new = written.key(name, network)
        value = state[key]
        if new is not None:
            converted[new] = _for_eps(name, value, source, network)
        elif value.any():
            nonzero.append(key)
    if nonzero:
        raise ConversionError(
            "the author's NL block has no biases, so these would be lost: "
            f'{listed(nonzero)}'
        )
    for name, shape in network.shapes().items():
        if source.key(name, network) is None:  # these biases, on the way here
            converted[written.key(name, network)] = torch.zeros(shape)
    return converted


def inspect_checkpoint(checkpoint: Mapping) -> Tuple[str, Network]:
    """Tell what a checkpoint holds, without a look at every key.

    Args:
        checkpoint (Mapping): As for :func:`convert_checkpoint`.

    Returns:
        tuple[str, Network]: The code that it comes from, and the network.

    Raises:
        ConversionError: If it is no such checkpoint.
    """
    state = state_dict_of(checkpoint)
    source = recognise(state)
    return source.name, describe(state, source)


def _written(source: Layout, target: str) -> Layout:
    """The layout of the target, for what comes from ``source``."""
    possible = {
        AUTHOR: {'mmpretrain': MMPRETRAIN, 'mmdet': MMDET},
        MASKRCNN_BENCHMARK: {'mmdet': MMDET_C4},
        MMPRETRAIN: {'author': AUTHOR},
    }[source]
    if target not in possible:
        raise ConversionError(
            f'from {source.name} to {target!r} cannot be converted; possible: '
            f'{", ".join(possible)}'
        )
    return possible[target]


def _without_place(
    names: Dict[str, Optional[str]], written: Layout, backbone_only: bool
) -> Set[str]:
    """Keys that the target has no place for; an error if not accepted."""
    no_classifier = backbone_only or written in (MMDET, MMDET_C4)
    lost = [
        key
        for key, name in names.items()
        if name is None or (no_classifier and name.startswith('fc.'))
    ]
    if lost and not backbone_only:
        raise ConversionError(
            f'{written.name} has no place for {listed(lost)}\n'
            'To leave them out, pass backbone_only=True (--backbone-only)'
        )
    return set(lost)


def _for_eps(name, value, source: Layout, network: Network) -> Tensor:
    """The running variance that, with mmdet's eps, is the frozen one."""
    frozen = source is MASKRCNN_BENCHMARK and name.endswith('running_var')
    if not frozen or name.startswith(f'{network.block_path}.'):
        return value
    return value - EPS
