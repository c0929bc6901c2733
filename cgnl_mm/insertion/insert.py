"""Put a block behind a module of any PyTorch network."""

import re
import sys
import warnings
from typing import Optional, Union

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from .arrangement import Arrangement
from .frames import teach
from .initialization import guard
from .places import MARK, find_places
from .record import Place, Recorder, in_order, record

# Settings by which a host freezes parts of a network.
FREEZING = ('frozen_stages', 'norm_eval', 'partial_bn', 'bn_frozen')


def insert_after(
    network: nn.Module,
    path: str,
    block: nn.Module,
    name: Optional[str] = None,
    example: Union[Tensor, tuple, None] = None,
    allow_frozen: bool = False,
    axes: Optional[str] = None,
    frames: Union[int, bool, None] = None,
    flat: bool = False,
) -> nn.Module:
    """Let a block transform the output of one module of a network.

    No key of the state dict changes, so pretrained weights load before or
    after. In an ``nn.Sequential`` that is itself called, such as a stage of
    a ResNet, the block becomes the next child (``layer3.cgnl_4`` follows
    ``layer3.4``). Behind any other module, the block becomes its child
    (``encoder.cgnl``) and runs in a forward hook. A run of the network on
    PyTorch's meta device tells which. Both ways, the network can be copied,
    pickled, compiled, traced, exported and distributed, and its
    ``init_weights`` leaves the block alone. A second block at one place
    follows the first. What was compiled is compiled anew.

    Args:
        network (Module): The network; changed in place.
        path (str): Dotted name of a module that returns one tensor, such as
            'layer3.4'. A negative integer counts from the last child.
        block (Module): Takes what the module returns, and keeps its shape.
        name (str, optional): Stem of the block's name, in place of that of
            its type; needed for a second block of one type at one place.
            Defaults to None.
        example (Tensor | tuple, optional): An input of the network, or a
            tuple of its arguments; needed where images, clips and tokens of
            the usual sizes are not taken. Defaults to None.
        allow_frozen (bool): Whether ``train()`` of the network may freeze the
            block, for weights that come trained. Defaults to False.
        axes (str, optional): 'BNC' (tokens) or 'BSC' (channels last), where
            the module returns these. Defaults to None.
        frames (int | True, optional): Frames of a clip, where they stand in
            the batch; True where the network is mmaction2's Recognizer2D, or
            has ``num_segments``. Defaults to None.
        flat (bool): Whether the block sees all positions as one image, for
            blocks of images in networks of clips. Defaults to False.

    Returns:
        Module: ``network``.

    Raises:
        ConfigError: (a ValueError) If there is no such module, no run reaches
            it, its name is taken, the block does not fit, or it would never
            be trained.
    """
    if '*' in path:
        raise ConfigError(f'path={path!r} must name one module')
    (found,) = find_places(network, path)
    recorder = Recorder(network, [found], example)
    place = recorder.look(found, Arrangement(axes, frames, flat))
    if place.shape is None:
        raise ConfigError(
            f'no trial run reached {found!r} ({recorder.reason}); give an '
            'input of the network as `example`'
        )
    insert_block(network, place, block, name, allow_frozen)
    teach(network)
    if 'torch._dynamo' in sys.modules:  # what was compiled lacks the block
        torch.compiler.reset()
    return network


def insert_block(
    network: nn.Module,
    place: Place,
    block: nn.Module,
    name: Optional[str],
    allow_frozen: bool,
) -> None:
    """Insert a block, unless it does not fit or would never be trained.

    Args:
        network (Module): The network; changed in place.
        place (Place): Where the block goes.
        block (Module): The block.
        name (str, optional): Stem of the block's name.
        allow_frozen (bool): Whether the network may freeze the block.

    Raises:
        ConfigError: (a ValueError) If it does; the network is as it was.
    """
    if place.shape:
        check_block(block, place)
    inserted = put(network, place, block, name)
    try:
        check_training(network, block, allow_frozen)
    except ConfigError:
        owner, _, name = inserted.rpartition('.')
        delattr(network.get_submodule(owner), name)
        raise
    place.arrangement.apply(block)


def put(
    network: nn.Module, place: Place, block: nn.Module, name: Optional[str]
) -> str:
    """Make a block a part of a network, and return its path.

    Args:
        network (Module): The network; changed in place.
        place (Place): Where the block goes.
        block (Module): The block; it takes the mode of its place.
        name (str, optional): Stem of its name; None is that of its type.

    Raises:
        ConfigError: (a ValueError) If the name is taken or cannot be one.
    """
    unit = network.get_submodule(place.path)
    head, _, tail = place.path.rpartition('.')
    owner, path = unit, place.path
    name = stem_of(type(block)) if name is None else name
    if place.in_order:
        owner, path, name = network.get_submodule(head), head, f'{name}_{tail}'
    if not name or '.' in name or hasattr(owner, name):
        raise ConfigError(
            f'{path!r} cannot take a module {name!r}, the name is there '
            "already or no name; give another one by 'name'"
        )
    block.train(unit.training)
    setattr(block, MARK, place.path)
    if place.in_order:
        # the order in _modules is the order of execution, whatever the names
        siblings = list(owner._modules.items())
        last = max(
            index
            for index, (key, sibling) in enumerate(siblings)
            if key == tail or getattr(sibling, MARK, None) == place.path
        )
        siblings.insert(last + 1, (name, block))
        owner._modules.clear()
        for key, module in siblings:
            owner.add_module(key, module)
    else:
        owner.add_module(name, block)
        if not in_order(unit):
            _call_children(unit, name)
    parts = path.split('.')
    for depth in range(len(parts) + 1):
        module = network.get_submodule('.'.join(parts[:depth]))
        guard(type(module))
    engine = sys.modules.get('mmengine.model')
    if engine is not None:  # the network may be a part of a model of its own
        guard(engine.BaseModule)
    return f'{path}.{name}' if path else name


def check_block(block: nn.Module, place: Place) -> None:
    """Run a block, on the meta device, on what a module returns.

    Raises:
        ConfigError: (a ValueError) If it fails, or changes the shape.
    """
    kind, shape = type(block).__name__, place.shape
    run = record(block, (torch.empty(shape, device='meta'),), set())
    if isinstance(run.error, NotImplementedError):
        return  # an operator without shapes alone
    if run.error is not None:
        hint = f'; give {place.hint}' if place.hint else ''
        raise ConfigError(
            f'{kind} does not fit behind {place.path!r}, which returns '
            f'{shape}: {run.error}{hint}'
        )
    if tuple(run.returned[block].shape) != shape:
        raise ConfigError(
            f'{kind} makes {tuple(run.returned[block].shape)} of {shape}, '
            f'which {place.path!r} returns; a block keeps the shape'
        )


def check_training(
    network: nn.Module, block: nn.Module, allow_frozen: bool
) -> None:
    """Call ``train()`` of the network, and see what it does to a block.

    Modes and ``requires_grad`` are put back, but for a block that is frozen
    and may be.

    Args:
        network (Module): The network.
        block (Module): A block in it.
        allow_frozen (bool): Whether the block may be frozen.

    Raises:
        ConfigError: (a ValueError) If the block is frozen, and may not be.
    """
    modes = {module: module.training for module in network.modules()}
    grads = {p: p.requires_grad for p in network.parameters()}
    own = [p for p in block.parameters() if p.requires_grad]
    network.train()
    frozen = [p for p in own if not p.requires_grad]
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]
    stopped = [norm for norm in norms if not norm.training]
    kept = set(block.modules()) if frozen and allow_frozen else set()
    for module, mode in modes.items():
        if module not in kept:
            module.training = mode
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(grads[parameter])
    where = f'behind {getattr(block, MARK)!r}, {type(network).__name__}'
    settings = ', '.join(
        f'{key}={getattr(network, key)}'
        for key in FREEZING
        if hasattr(network, key)
    )
    if frozen and not allow_frozen:
        what = 'the block' if len(frozen) == len(own) else 'its BatchNorm'
        raise ConfigError(
            f'{where} freezes {what} ({settings}), which would stay the '
            'identity; move the block, free the place, or set '
            'allow_frozen=True if its weights come trained'
        )
    if stopped and not frozen:
        warnings.warn(
            f'{where} ({settings}) also stops the BatchNorm of the block from '
            'ever estimating its statistics; use GroupNorm (norm_cfg=None) or '
            'norm_eval=False',
            stacklevel=2,
        )


def stem_of(kind: type) -> str:
    """Return the name of a type of block as OpenMMLab forms it."""
    words = r'(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])'
    snake = re.sub(words, '_', kind.__name__).lower()
    return getattr(kind, '_abbr_', snake)


class _Call:
    """Forward hook that calls children of the module that it is handed.

    It holds no module, so that copies and replicas call their own children.
    """

    def __init__(self) -> None:
        self.names = []

    def __call__(self, module: nn.Module, args: tuple, output: Tensor):
        for name in self.names:
            if name in module._modules:  # nobody has taken it out
                output = module._modules[name](output)
        return output


def _call_children(unit: nn.Module, name: str) -> None:
    """Let a module call one more of its children on what it returns."""
    hooks = unit._forward_hooks.values()
    call = next((hook for hook in hooks if isinstance(hook, _Call)), None)
    if call is None:
        call = _Call()
        # Other hooks see what the next module gets.
        unit.register_forward_hook(call, prepend=True)
    if name not in call.names:
        call.names.append(name)
