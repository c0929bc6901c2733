"""Run a network without data, and record what its modules return.

The order in which modules are registered is not the order in which they
run, so what a block is put behind is found out by a run. It takes place on
PyTorch's meta device: shapes alone are computed, and no weight changes.
"""

import dataclasses
import itertools
import warnings
from typing import Any, Dict, Iterator, NamedTuple, Optional, Set, Tuple

import torch
from torch import Tensor, is_tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils import _pytree

from ..errors import ConfigError, describe_error
from .arrangement import Arrangement, check_axes
from .frames import segments_of

SIZES = (64, 224, 384)  # pixels; some networks take one size alone
PLAIN = (bool, int, float, str, type(None))


class Run(NamedTuple):
    """What became of one run of a module.

    Args:
        returned (dict[Module, Any]): What each called module returned.
        dead (set[Module]): Places that no gradient of an output reaches.
        error (Exception, optional): What ended the run before its end.
        clips (int): Clips in the input of a network of frames, else 0.
    """

    returned: Dict[nn.Module, Any]
    dead: Set[nn.Module]
    error: Optional[Exception]
    clips: int = 0


class Place(NamedTuple):
    """A module of a network that a block can follow.

    Args:
        path (str): Its dotted name.
        shape (tuple[int, ...], optional): Shape of what it returned, as a
            block sees it; None if no run reached it.
        in_order (bool): Whether it stands in an nn.Sequential that is itself
            called, so that the block can be the next child.
        arrangement (Arrangement): The axes there.
        hint (str): The ``axes`` that seem to be missing; '' if none.
    """

    path: str
    shape: Optional[Tuple[int, ...]]
    in_order: bool
    arrangement: Arrangement
    hint: str = ''


class Recorder:
    """Runs a network, and parts of it where the whole does not run.

    Args:
        network (Module): The network; nothing of it is changed.
        paths (Sequence[str]): Dotted names of the modules to look at.
        example (Tensor | tuple, optional): An input of the network, or its
            arguments. Without, usual shapes are tried. Defaults to None.
    """

    def __init__(self, network: nn.Module, paths, example=None) -> None:
        self.network = network
        self.marked = {network.get_submodule(path) for path in paths}
        self.example = example
        self.runs = {}

    def look(self, path: str, arrangement: Arrangement) -> Place:
        """Find out what a module returns, and who calls it.

        Args:
            path (str): One of the paths.
            arrangement (Arrangement): The axes of what the module returns.

        Returns:
            Place: What was found.

        Raises:
            ConfigError: (a ValueError) If the module is never called, returns
                no single tensor or one of other axes, or reaches no output.
        """
        unit = self.network.get_submodule(path)
        parts = path.split('.')
        place = None
        for depth in range(len(parts) + 1):
            run = self._run('.'.join(parts[:depth]))
            if unit in run.returned:
                if place is None:
                    # A part that was run for itself proves no call of it.
                    called = depth < len(parts) - 1 or depth == 0
                    place = self._place(path, run, called, arrangement)
                if unit in run.dead:
                    raise ConfigError(
                        f'{path!r} lies behind the last output of '
                        f'{type(self.network).__name__}, so a block there '
                        'would never be trained; move it, or add the output '
                        '(out_indices)'
                    )
            elif run.error is None or isinstance(
                unit, (nn.ModuleList, nn.ModuleDict)
            ):
                raise ConfigError(_uncalled(path, unit, run))
            if place is not None and run.error is None:
                break
        return place or Place(path, None, False, arrangement)

    def _place(
        self, path: str, run: Run, called: bool, arrangement: Arrangement
    ) -> Place:
        """Describe a module by what it returned in a run."""
        unit = self.network.get_submodule(path)
        parent = self.network.get_submodule(path.rpartition('.')[0])
        if not isinstance(run.returned[unit], Tensor):
            raise ConfigError(_no_tensor(path, unit, run))
        shape = tuple(run.returned[unit].shape)
        hint = check_axes(unit, shape, arrangement.axes)
        if hint and arrangement.axes:
            raise ConfigError(
                f'{path!r} returns {shape}, which axes={arrangement.axes!r} '
                f'does not fit; give {hint}'
            )
        if arrangement.frames is True and run.clips:
            frames = shape[0] // run.clips
            arrangement = dataclasses.replace(arrangement, frames=frames)
        shape = arrangement.shape_of(shape)
        called = called and parent in run.returned and in_order(parent)
        return Place(path, shape, called, arrangement, hint)

    @property
    def reason(self) -> str:
        """What ended the last run of the whole network."""
        return describe_error(self.runs[''].error)

    def _run(self, top: str) -> Run:
        """Run the module at a path, with the first input that it takes."""
        if top not in self.runs:
            module = self.network.get_submodule(top)
            if self.example is not None and not top:
                args = self.example
                tries = [args if isinstance(args, tuple) else (args,)]
            else:
                tries = inputs_for(module)
            best = Run({}, set(), ConfigError('no input is known'))
            for args in tries:
                run = record(module, args, self.marked)
                if run.error is None or len(run.returned) > len(best.returned):
                    best = run
                if run.error is None:
                    break
            self.runs[top] = best
        return self.runs[top]


def in_order(module: nn.Module) -> bool:
    """Whether a call of the module calls its children one after the other."""
    forward = type(module).forward
    return (
        isinstance(module, nn.Sequential) and forward is nn.Sequential.forward
    )


def inputs_for(module: nn.Module) -> Iterator[tuple]:
    """Yield the arguments that a module of its kind usually takes.

    Its first convolution tells the channels, and the number of axes.
    """
    channels = getattr(module, 'in_channels', None)
    if isinstance(channels, (list, tuple)):  # a neck takes several maps
        yield (
            tuple(
                torch.empty(1, c, max(64 >> i, 1), max(64 >> i, 1))
                for i, c in enumerate(channels)
            ),
        )
    batch = segments_of(module) or 1
    for layer in module.modules():
        size = getattr(layer, 'kernel_size', None)
        width = getattr(layer, 'in_channels', None)
        if isinstance(layer, nn.Linear):
            yield (torch.empty(1, 16, layer.in_features),)
            yield (torch.empty(1, layer.in_features),)
            return
        if isinstance(width, int) and isinstance(size, tuple):
            break
    else:
        return
    if len(size) == 1:
        yield (torch.empty(1, width, 64),)
        return
    # The first convolution may follow a rearrangement of the image.
    for pixels, c in itertools.product(SIZES, dict.fromkeys((width, 3))):
        image = (pixels, pixels)
        if len(size) == 2:
            yield (torch.empty(batch, c, *image),)
        for frames in (8, 32):  # some 2D networks take clips, too
            yield (torch.empty(1, c, frames, *image),)
    if len(size) == 2:  # a head takes a tuple of maps
        yield ((torch.empty(1, width, 64, 64),),)


def record(module: nn.Module, args: tuple, marked: Set[nn.Module]) -> Run:
    """Run a module on the meta device, and note what each part returns.

    Args:
        module (Module): Left as it was, caches that it fills included.
        args (tuple): Its arguments.
        marked (set[Module]): Parts of it; it is found out whether their
            outputs have a share in what the module returns.

    Returns:
        Run: What happened.
    """
    returned, marks, error, result = {}, {}, None, None

    def note(part: nn.Module, _, output: Any) -> Optional[Tensor]:
        returned[part] = output
        if (
            part not in marked
            or not isinstance(output, Tensor)
            or not output.is_floating_point()
            or not torch.is_grad_enabled()  # inside of a checkpoint
        ):
            return None
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        output = output.clone()  # a ReLU may work in place
        marks.setdefault(part, []).append(output.grad_fn)
        return output

    own = dict([*module.named_parameters(), *module.named_buffers()])
    types = [t.dtype for t in own.values() if t.is_floating_point()]
    dtype = types[0] if types else None
    tensors = {name: t.detach().to('meta') for name, t in own.items()}
    args = _pytree.tree_map_only(
        Tensor,
        lambda x: x.to('meta', dtype if x.is_floating_point() else None),
        args,
    )
    before = [(part, dict(vars(part))) for part in module.modules()]
    hook = register_module_forward_hook(note)
    try:
        for part, _ in before:
            part.training = False
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter('ignore')
            with torch.enable_grad(), torch.device('meta'):
                result = torch.func.functional_call(module, tensors, args)
    except Exception as caught:  # whatever an unknown network may raise
        error = caught
    finally:
        hook.remove()
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
    dead = set() if error else _dead(result, marks)
    return Run(returned, dead, error, _clips_in(args, module))


def _dead(result: Any, marks: Dict[nn.Module, list]) -> Set[nn.Module]:
    """Find the marked parts that the graph of the result does not hold."""
    leaves = _pytree.tree_flatten(result)[0]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not tensors or not all(isinstance(x, (*PLAIN, Tensor)) for x in leaves):
        return set()  # an object whose tensors are not seen
    nodes = [tensor.grad_fn for tensor in tensors if tensor.grad_fn]
    seen = set(nodes)
    while nodes:
        following = {n for n, _ in nodes.pop().next_functions if n} - seen
        seen |= following
        nodes += following
    return {part for part, own in marks.items() if seen.isdisjoint(own)}


def _clips_in(args: tuple, module: nn.Module) -> int:
    """Count the clips in the images that a network of frames takes."""
    segments = segments_of(module)
    images = [x for x in args if isinstance(x, Tensor) and x.dim() == 4]
    return len(images[0]) // segments if images and segments else 0


def _no_tensor(path: str, unit: nn.Module, run: Run) -> str:
    """Say which module inside returns the first tensor of a tuple."""
    returned, output = run.returned, run.returned[unit]
    first = next(filter(is_tensor, _pytree.tree_flatten(output)[0]), None)
    names = {part: name for name, part in unit.named_modules(prefix=path)}
    found = [m for m in returned if m in names and is_tensor(returned[m])]
    same = [part for part in found if returned[part] is first]
    text = (
        f'{path!r} returns a {type(output).__name__}, and a block takes one '
        'tensor; name '
    )
    if not found:
        return f'{text}a module in it ({_inside(unit)})'
    part = (same or found)[-1]  # the last that ended is the outermost
    shape = tuple(returned[part].shape)
    axes = check_axes(part, shape, None)
    hint = f', with {axes}' if axes else ''
    return f'{text}{names[part]!r}, which returns {shape}{hint}'


def _uncalled(path: str, unit: nn.Module, run: Run) -> str:
    if isinstance(unit, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) or any(
        part in run.returned for part in unit.modules()
    ):
        return (
            f'{path!r} is a {type(unit).__name__}, whose children only its '
            f'owner calls; name one of them ({_inside(unit)}), or the module '
            'around it'
        )
    return f'{path!r} is not called when the network runs'


def _inside(unit: nn.Module) -> str:
    return ', '.join(name for name, _ in unit.named_children()) or 'none'
