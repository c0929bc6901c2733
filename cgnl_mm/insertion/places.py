"""Name places in a network: dotted paths, patterns, units of a ResNet."""

import difflib
import re
from collections.abc import Sequence as SequenceABC
from typing import Iterator, List, Sequence, Union

from torch import nn

from ..errors import ConfigError

# An attribute of each inserted block: the path of the module before it.
MARK = 'follows'


def find_places(
    network: nn.Module, after: Union[str, Sequence[str]]
) -> List[str]:
    """Find the modules that paths mean, before any block was inserted.

    Args:
        network (Module): The network.
        after (str | Sequence[str]): Dotted paths. ``*`` stands for one name,
            and a negative integer counts from the last child.

    Returns:
        list[str]: Dotted names of modules, in the order of the paths.

    Raises:
        ConfigError: (a ValueError) If there is no such module.
    """
    patterns = [after] if isinstance(after, str) else after
    if (
        not isinstance(patterns, SequenceABC)
        or not patterns
        or not all(isinstance(pattern, str) for pattern in patterns)
    ):
        raise ConfigError(
            f"after={after!r} must be a dotted path, such as 'layer3.-2', or "
            'a list of them'
        )
    return [path for pattern in patterns for path in _expand(network, pattern)]


def find_units(
    network: nn.Module, after_blocks: Sequence[Sequence[int]]
) -> List[str]:
    """Find residual units of a ResNet, whose stages are layer1, layer2, ...

    Args:
        network (Module): The network.
        after_blocks (Sequence[Sequence[int]]): Units of each stage, counted
            from 0, or negative from the last.

    Returns:
        list[str]: Dotted names of the units.

    Raises:
        ConfigError: (a ValueError) If the stages or the units are others.
    """
    stages = getattr(network, 'res_layers', None) or [
        name
        for name in original_children(network)
        if re.fullmatch(r'layer\d+', name)
    ]
    if (
        not isinstance(after_blocks, (list, tuple))
        or len(after_blocks) != len(stages)
        or not all(isinstance(units, (list, tuple)) for units in after_blocks)
        or not any(after_blocks)
    ):
        raise ConfigError(
            f'after_blocks={after_blocks!r} must have one tuple of units, '
            f'such as (-2,) or (), for each of the {len(stages)} stages '
            f'({", ".join(stages) or "layer1, ..."}), and name a unit; other '
            'places go by `after`'
        )
    return find_places(
        network,
        [
            f'{stage}.{unit}'
            for stage, units in zip(stages, after_blocks)
            for unit in units
        ],
    )


def original_children(module: nn.Module) -> List[str]:
    """Name the children of a module that were not inserted."""
    return [
        name
        for name, child in module._modules.items()
        if child is not None and not hasattr(child, MARK)
    ]


def _expand(network: nn.Module, pattern: str) -> Iterator[str]:
    paths = ['']
    for part in pattern.split('.'):
        paths = [
            f'{path}.{name}' if path else name
            for path in paths
            for name in _match(network, path, part, pattern)
        ]
    return paths


def _match(
    network: nn.Module, path: str, part: str, pattern: str
) -> List[str]:
    """Name the children of the module at ``path`` that ``part`` means."""
    names = original_children(network.get_submodule(path))
    if part == '*' and names:
        return names
    if part in names:
        return [part]
    if re.fullmatch(r'-[1-9]\d*', part) and int(part[1:]) <= len(names):
        return [names[int(part)]]
    known = [name for name, _ in network.named_modules() if name]
    near = difflib.get_close_matches(pattern, known, n=3)
    hint = f'did you mean {" or ".join(near)}? ' if near else ''
    where = f'{path!r} has' if path else 'the network has'
    raise ConfigError(
        f'{type(network).__name__} has no module {pattern!r}; {hint}{where} '
        f'{", ".join(names) or "no children"}'
    )
