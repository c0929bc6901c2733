"""What a checkpoint holds: whose names, which network, which tensors."""

import re
from collections import defaultdict
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Set, Tuple

import torch
from torch import Tensor

from .block import CGNL, NON_LOCAL
from .layouts import AUTHOR, MASKRCNN_BENCHMARK, MMPRETRAIN, Layout
from .network import (
    BLOCKS,
    OPTIONAL,
    UNITS,
    ConversionError,
    Network,
    Shape,
)

BLOCK_MODULES = {*CGNL, *NON_LOCAL}  # modules of a block in the author's code
_BOX = 'roi_heads.box.feature_extractor.'
_MASK = 'roi_heads.mask.feature_extractor.'


def listed(keys: List[str]) -> str:
    """Their number, and one a line."""
    return '\n  '.join([f'{len(keys)} keys:', *keys])


def state_dict_of(checkpoint: Mapping) -> Dict[str, Tensor]:
    """The state dict in a checkpoint, without DataParallel's prefix."""
    if isinstance(checkpoint, Mapping):
        for key in ('state_dict', 'model'):
            if isinstance(checkpoint.get(key), Mapping):
                checkpoint = checkpoint[key]
                break
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ConversionError(
            'not a checkpoint: expected a state dict, or a dict with one '
            f"under 'state_dict' or 'model', got {type(checkpoint).__name__}"
        )
    other = [
        key
        for key, value in checkpoint.items()
        if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    if other:
        raise ConversionError(
            'not a state dict, these are not names of tensors: '
            f'{listed([str(key) for key in other])}'
        )
    state = dict(checkpoint)
    if all(key.startswith('module.') for key in state):
        state = {key[len('module.') :]: v for key, v in state.items()}
    return state


def recognise(state: Dict[str, Tensor]) -> Layout:
    """Tell whose names a state dict has."""
    for prefix, layout in (
        ('backbone.body.', MASKRCNN_BENCHMARK),
        ('backbone.', MMPRETRAIN),
        ('layer1.', AUTHOR),
    ):
        if any(key.startswith(prefix) for key in state):
            return layout
    first = ', '.join(list(state)[:3])
    raise ConversionError(
        'no ResNet of the author, torchvision, maskrcnn-benchmark or '
        f'mmpretrain: its keys are {first}, ...'
    )


def describe(state: Dict[str, Tensor], source: Layout) -> Network:
    """Find depth, block, groups and classes; keys may still be missing.

    Raises:
        ConversionError: If the units are those of no known depth, or there
            is more than one block, or it is at another place.
    """
    shapes = {source.to_plain(key): v.shape for key, v in state.items()}
    shapes.pop(None, None)  # keys of heads
    counts, blocks = _units_and_blocks(shapes, source)
    if len(blocks) > 1:
        raise ConversionError(
            f'more than one block: {", ".join(sorted(blocks))}; the author '
            'places one, in layer3 before its last unit'
        )
    depths = {units: depth for depth, units in UNITS.items()}
    depth = depths.get(tuple(counts))
    if depth is None:
        raise ConversionError(
            f'layer1 to layer4 have {counts} residual units; known are '
            + ', '.join(f'{list(v)} (R-{k})' for k, v in UNITS.items())
        )
    # without these two, their keys will be listed
    width = (*shapes.get('conv1.weight', ()), 64)[0]
    classes = (*shapes.get('fc.weight', ()), 1000)[0]
    if source is MASKRCNN_BENCHMARK:
        classes = None
    network = Network(depth, num_classes=classes, width=width)
    for path, modules in blocks.items():
        network = _with_block(network, path, modules, shapes, source)
    return network


def _units_and_blocks(
    shapes: Dict[str, Shape], source: Layout
) -> Tuple[List[int], Dict[str, Set[str]]]:
    """Count the units of each stage; find the blocks and their modules."""
    last = [-1] * 4
    blocks: Dict[str, Set[str]] = defaultdict(set)
    for name in shapes:
        match = re.match(r'(layer([1-4])\.(\w+))\.(\w+)\.', name)
        if match is None:
            continue
        path, stage, entry, module = match.groups()
        if entry.isdigit():
            # one that is missing counts: its keys will be listed
            last[int(stage) - 1] = max(last[int(stage) - 1], int(entry))
        if not entry.isdigit() or (source.shifted and module in BLOCK_MODULES):
            blocks[path].add(module)
    counts = [index + 1 for index in last]
    if source.shifted:
        for path in blocks:
            counts[int(path[5]) - 1] -= 1
    return counts, blocks


def _with_block(
    network: Network,
    path: str,
    modules: Set[str],
    shapes: Dict[str, Shape],
    source: Layout,
) -> Network:
    """Complete the network with its block, found at ``path``."""
    if source.shifted:
        kind = 'NonLocal2d' if 'bn' in modules else 'CGNL2d'
        expected = f'layer3.{network.unit + 1}'
        last_conv = 'z'
    else:
        kind = 'NonLocal2d' if 'nonlocal' in path else 'CGNL2d'
        name, names = BLOCKS[kind]
        expected = f'layer3.{name}_{network.unit}'
        last_conv = names['z']
    if path != expected:
        raise ConversionError(
            f'{path} is not the block of the author, which in a '
            f'R-{network.depth} is {expected}'
        )
    groups = 1
    if kind == 'CGNL2d':
        inner = 8 * network.width
        shape = (*shapes.get(f'{path}.{last_conv}.weight', ()), 0, 0)
        # else 8, the author's: the error will give the shape
        groups = 8
        if shape[1] and inner % shape[1] == 0:
            groups = inner // shape[1]
    return replace(network, block=kind, groups=groups)


def names_of_keys(
    state: Dict[str, Tensor], source: Layout, network: Network
) -> Dict[str, Optional[str]]:
    """Compare the checkpoint with what its network must have.

    Returns:
        dict[str, str | None]: For each key of the checkpoint its name in
        ``Network.shapes``; None for what belongs to a detector's heads.

    Raises:
        ConversionError: If keys are missing, unknown or of another shape.
    """
    names: Dict[str, Optional[str]] = {}
    faults: Dict[str, List[str]] = defaultdict(list)
    for name, shape in network.shapes().items():
        key = source.key(name, network)
        if key is None:
            continue
        names[key] = name
        if key not in state:
            if not name.endswith(OPTIONAL):
                faults['missing'].append(key)
        elif tuple(state[key].shape) != shape:
            faults['wrong shape'].append(
                f'{key}: {tuple(state[key].shape)}, expected {shape}'
            )
    for key in state:
        twin = key.replace(_MASK, _BOX)
        if key in names:
            continue
        elif twin in names and twin in state:
            # the mask head names the stage that it shares once more
            names[key] = names[twin]
            if not torch.equal(state[key], state[twin]):
                faults['different from the box head'].append(key)
        elif source.heads and key.startswith(source.heads):
            names[key] = None
        else:
            faults['unknown'].append(key)
    text = '\n'.join(f'{k}, {listed(v)}' for k, v in faults.items())
    if text:
        raise ConversionError(
            f'not a R-{network.depth} with {network.block or "no block"} of '
            f'{source.name}:\n{text}'
        )
    return {key: names[key] for key in state}
