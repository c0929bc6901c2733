"""Keep what the constructors of blocks drew, whatever a host initialises.

Hosts initialise every convolution and norm that they find, from the random
stream of all. While they do, the blocks are out of the network: the host does
what it does without them. They are back while a checkpoint that holds them
is loaded.
"""

import functools
import inspect
import zlib
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, Tuple

import torch
from torch import Tensor, nn

from ..blocks.cgnl import _CGNLNd
from .places import MARK

# All children of the modules whose blocks are hidden at this moment.
_whole: Dict[nn.Module, Dict[str, Any]] = {}


def guard(kind: type) -> None:
    """Let a class leave the blocks in its instances alone.

    Its ``init_weights`` does not see them, and its ``get_layer_depth`` takes
    them for the unit before them. A second call has no effect.

    Args:
        kind (type): Class of a module that holds a block.
    """
    for name, wrap in GUARDS.items():
        for base in kind.__mro__:
            method = vars(base).get(name)
            if method is not None:
                if inspect.isfunction(method) and not hasattr(
                    method, 'original'
                ):
                    guarded = functools.wraps(method)(wrap(method))
                    guarded.original = method
                    setattr(base, name, guarded)
                break


def is_block(module: nn.Module) -> bool:
    """Whether a module was inserted, or is a CGNL block of a host's own."""
    return hasattr(module, MARK) or isinstance(module, _CGNLNd)


@contextmanager
def hidden_blocks(network: nn.Module):
    """Take the blocks out of a network, but while they are loaded.

    A block with an ``init_cfg`` obeys it before.
    """
    parents = [
        module
        for module in network.modules()
        if any(map(is_block, module.children()))
    ]
    for path, block in named_blocks(network):
        if getattr(block, 'init_cfg', None):
            with own_random_state(path):
                block.init_weights()
    with ExitStack() as stack:
        for parent in parents:
            stack.enter_context(_hidden_in(parent))
        yield


def named_blocks(network: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    """Yield the path and the module of each block, be it hidden or not."""
    for path, parent in list(network.named_modules()):
        for name, child in _whole.get(parent, parent._modules).items():
            if is_block(child):
                yield f'{path}.{name}' if path else name, child


@contextmanager
def own_random_state(name: str):
    """Draw from a stream of its own, so that nothing else draws otherwise.

    Twin networks, with and without blocks, start from the same weights.

    Args:
        name (str): What tells the stream from others of the same seed.
    """
    state = torch.get_rng_state()
    try:
        seed = zlib.crc32(name.encode(), zlib.crc32(state.numpy().tobytes()))
        # the global generator alone: torch.manual_seed would reset CUDA's too
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def _hidden_in(parent: nn.Module):
    """Hide the blocks among the children of a module.

    A checkpoint shows those that it has weights for; a new block is not
    missing in it.
    """
    modules = _whole[parent] = parent._modules

    def show(state: Dict[str, Tensor], prefix: str, *_) -> None:
        parent._modules = {
            name: module
            for name, module in modules.items()
            if not is_block(module)
            or any(key.startswith(f'{prefix}{name}.') for key in state)
        }

    def hide(*_) -> None:
        show({}, '')

    # public only in torch >= 2.5
    first = parent._register_load_state_dict_pre_hook(show)
    last = parent.register_load_state_dict_post_hook(hide)
    hide()
    try:
        yield
    finally:
        parent._modules = _whole.pop(parent)
        first.remove()
        last.remove()


def _without_blocks(init_weights: Callable) -> Callable:
    def guarded(self, *args, **kwargs):
        with hidden_blocks(self):
            return init_weights(self, *args, **kwargs)

    return guarded


def _as_units(get_layer_depth: Callable) -> Callable:
    def guarded(self, param_name: str, *args, **kwargs):
        prefix = args[0] if args else kwargs.get('prefix', '')
        for path, block in named_blocks(self):
            stage = path.rpartition('.')[0]
            if isinstance(self.get_submodule(stage), nn.Sequential):
                unit = getattr(block, MARK, path).rpartition('.')[2]
                ours, theirs = f'{prefix}{path}.', f'{prefix}{stage}.{unit}.'
                param_name = param_name.replace(ours, theirs)
        return get_layer_depth(self, param_name, *args, **kwargs)

    return guarded


GUARDS = {'init_weights': _without_blocks, 'get_layer_depth': _as_units}
