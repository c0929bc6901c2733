"""Blocks in any PyTorch network, without a config."""

import difflib
from typing import Optional

import torch
from torch import Tensor, nn


def insert_after(
    model: nn.Module,
    path: str,
    block: nn.Module,
    name: Optional[str] = None,
    example: Optional[Tensor] = None,
) -> nn.Module:
    """Let ``block`` transform the output of one module of a network.

    No key of the state dict changes, so pretrained weights load before or
    after. In an ``nn.Sequential``, such as a stage of a ResNet, the block
    becomes the next child, under the name that it has in our backbones
    (``layer3.cgnl_4`` after ``layer3.4``): weights are exchanged with those
    as they are. Behind any other module, the block becomes its child
    (``encoder.cgnl``) and runs in a forward hook. Both ways, the network can
    be copied, pickled, compiled, traced, exported and distributed.

    Args:
        model (Module): The network; changed in place.
        path (str): Dotted name of a module of it that returns one tensor,
            such as 'layer3.4'.
        block (Module): Takes what the module returns, and keeps its shape.
        name (str, optional): Name of the block among its siblings; needed
            for a second block of one type at one place. Defaults to the
            type's, and the name of the module before it.
        example (Tensor, optional): An input of the network. It is run once,
            in evaluation mode, to check that the block fits; without, a
            wrong number of channels is an error of the first forward pass,
            which names ``path``.
            Defaults to None.

    Returns:
        Module: ``model``.

    Raises:
        ValueError: If there is no such module, it is never called as one,
            the name is taken, or the block does not fit the example.
    """
    unit = _find(model, path)
    head, _, tail = path.rpartition('.')
    parent = model.get_submodule(head)
    own = getattr(block, '_abbr_', type(block).__name__.lower())
    if _runs_in_order(parent):
        place, default = parent, f'{own}_{tail}'
    else:
        place, default = unit, own
    if (
        place is unit
        and isinstance(unit, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        and not _runs_in_order(unit)
    ):
        raise ValueError(
            f'{path!r} is a {type(unit).__name__}, whose children only its '
            'owner calls; name one of them, or the module around it'
        )
    name = default if name is None else name
    if not name or '.' in name or hasattr(place, name):
        owner = head if place is parent else path
        raise ValueError(
            f'{owner!r} cannot take a module {name!r}, the name is there '
            "already or no name; give another one by 'name'"
        )
    if example is not None:
        _probe(model, path, unit, block, example)
    elif isinstance(getattr(block, 'in_channels', None), int):
        block.register_forward_pre_hook(_Width(path))

    block.train(unit.training)
    if place is parent:
        # the order in _modules is the order of execution, whatever the names
        siblings = list(parent._modules.items())
        parent._modules.clear()
        for key, module in siblings:
            parent.add_module(key, module)
            if key == tail:
                parent.add_module(name, block)
    else:
        unit.add_module(name, block)
        if not _runs_in_order(unit):
            unit.register_forward_hook(_Call(name), prepend=True)
    return model


class _Call:
    """Forward hook that calls a child of the module that it is handed.

    It holds no module, so that copies and replicas call their own child.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: tuple, output: Tensor):
        return getattr(module, self.name)(output)


class _Width:
    """Hook before a block that nothing was tried with; says where it is."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, block: nn.Module, args: tuple) -> None:
        if torch.jit.is_tracing() or not args:
            return
        x = args[0]
        if isinstance(x, Tensor) and x.dim() > 1:
            if x.shape[1] != block.in_channels:
                raise ValueError(
                    f'{type(block).__name__} behind {self.path!r} expects '
                    f'{block.in_channels} channels, got {tuple(x.shape)}'
                )


def _runs_in_order(module: nn.Module) -> bool:
    forward = type(module).forward
    return (
        isinstance(module, nn.Sequential) and forward is nn.Sequential.forward
    )


def _find(model: nn.Module, path: str) -> nn.Module:
    """Look a module up, or say which ones are near."""
    modules = dict(model.named_modules())
    modules.pop('')
    if path in modules:
        return modules[path]
    # what is there of the path, and what it could go on with
    parts = str(path).split('.')
    while parts and '.'.join(parts) not in modules:
        parts.pop()
    start = '.'.join(parts)
    children = [
        f'{start}.{child}' if start else child
        for child, _ in model.get_submodule(start).named_children()
    ]
    near = difflib.get_close_matches(str(path), modules, n=3)
    hint = f'did you mean {" or ".join(near)}? ' if near else ''
    where = f'{start!r} has' if start else 'the network has'
    raise ValueError(
        f'{type(model).__name__} has no module {path!r}; {hint}{where} '
        f'{", ".join(children) or "no children"}'
    )


def _probe(model, path, unit, block, example) -> None:
    """Run the network once and put the block behind the unit's output."""
    outputs = []
    handle = unit.register_forward_hook(
        lambda module, args, output: outputs.append(output)
    )
    modes = {m: m.training for part in (model, block) for m in part.modules()}
    try:
        model.eval()
        block.eval()
        with torch.no_grad():
            model(example)
            if not outputs:
                raise ValueError(
                    f'{path!r} is not called when the network runs'
                )
            before = outputs[-1]
            if not isinstance(before, Tensor):
                raise ValueError(
                    f'{path!r} returns a {type(before).__name__}, and a '
                    'block takes one tensor'
                )
            try:
                after = block(before)
            except (ValueError, RuntimeError) as error:
                raise ValueError(
                    f'{type(block).__name__} does not fit behind {path!r}, '
                    f'which returns {tuple(before.shape)}: {error}'
                ) from error
            if after.shape != before.shape:
                raise ValueError(
                    f'{type(block).__name__} makes {tuple(after.shape)} of '
                    f'{tuple(before.shape)}, which {path!r} returns; a block '
                    'keeps the shape'
                )
    finally:
        handle.remove()
        for module, mode in modes.items():
            module.training = mode
