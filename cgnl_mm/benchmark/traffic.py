"""Count the bytes that operators read and write, without a GPU.

Each operator of PyTorch counts the unique elements of its inputs and outputs.
Views, empty tensors and casts of at most four elements cost nothing. A
convolution's backward pass is two kernels, which both read the gradient. The
network runs on fake CPU tensors, and mixed precision follows CUDA's lists.
"""

from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..ops.torch_versions import autocast_dtype
from .cases import Case
from .forms import choose_forms
from .settings import Settings
from .timing import as_tuple, noting_failure

FREE = {
    *('_reshape_alias', '_unsafe_view', 'alias', 'detach', 'empty'),
    *('empty_like', 'empty_strided', 'is_same_size', 'lift_fresh'),
    *('new_empty', 'new_empty_strided', 'resize_'),
}
# Functions of these blocks that CUDA's autocast runs in half precision, and
# those that it runs in float32.
HALF = {'bmm', 'conv1d', 'conv2d', 'conv3d', 'matmul'}
FULL = {'exp', 'group_norm', 'pow', 'softmax', 'sum'}


class TrafficCounter(TorchDispatchMode):
    """Count the bytes and the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.operators = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        aliases = [value.alias_info for value in function._schema.returns]
        is_view = any(a is not None and not a.is_write for a in aliases)
        if is_view or name in FREE or function.namespace != 'aten':
            return out
        # An operator writes to ``out`` without reading it.
        read = {k: v for k, v in (kwargs or {}).items() if k != 'out'}
        inputs = {id(t): t for t in tensors_in((args, read))}
        if name == '_to_copy' and args[0].numel() <= 4:
            return out
        self.operators.append(name)
        self.bytes += sum(map(unique_bytes, inputs.values()))
        self.bytes += sum(map(unique_bytes, tensors_in(out)))
        if name == 'convolution_backward' and all(args[-1][:2]):
            self.bytes += unique_bytes(args[0])
        return out


class CudaLists(TorchFunctionMode):
    """Apply CUDA's lists of autocast to tensors on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        half, name = autocast_dtype('cpu'), function.__name__
        if half is not None and name in HALF | FULL:
            dtype = half if name in HALF else torch.float32
            args, kwargs = tree_map(
                lambda value: self.cast(value, dtype), (args, kwargs)
            )
        return function(*args, **(kwargs or {}))

    def cast(self, value, dtype: torch.dtype):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if isinstance(value, nn.Parameter) and dtype != torch.float32:
            if id(value) not in self.weights:
                self.weights[id(value)] = value.to(dtype)
            return self.weights[id(value)]
        return value.to(dtype)


def tensors_in(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def unique_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor; a broadcast element counts once."""
    sizes = [n if s else 1 for n, s in zip(tensor.shape, tensor.stride())]
    return torch.Size(sizes).numel() * tensor.element_size()


@contextmanager
def mixed_precision(settings: Settings):
    if settings.dtype == 'float32':
        yield
    else:
        with torch.autocast('cpu', settings.torch_dtype), CudaLists():
            yield


def as_on_a_gpu():
    """Let the paths take the steps that they take on a GPU."""
    return mock.patch.object(Tensor, 'is_cuda', True)


def count_passes(
    module: nn.Module, x: Tensor, settings: Settings
) -> dict[str, TrafficCounter]:
    """Count what a module moves without and with gradients."""
    with torch.no_grad(), TrafficCounter() as forward:
        with mixed_precision(settings):
            module.eval()(x)
    x = x.requires_grad_()
    with TrafficCounter() as training:
        with mixed_precision(settings):
            out = as_tuple(module.train()(x))
        torch.autograd.backward(out, [torch.empty_like(y) for y in out])
    return {'forward': forward, 'forward + backward': training}


def count_traffic(case: Case, settings: Settings) -> list[dict]:
    """Count what each form moves on one input.

    Args:
        case (Case): Input and settings of the block.
        settings (Settings): Type of the input; weights are float32. A GPU's
            'auto' is the reference path, so that 'auto' is left out.

    Returns:
        list[dict]: A record for each form and pass.
    """
    common = {**case.columns(), **settings.columns()}
    records = []
    for form in choose_forms(case, settings):
        if form.backend == 'auto':
            continue
        status, passes = {}, {}
        with noting_failure(status, form.name):
            with FakeTensorMode(allow_non_fake_inputs=True), as_on_a_gpu():
                x = torch.empty(case.shape, dtype=settings.torch_dtype)
                passes = count_passes(form.build(case), x, settings)
        for kind in ('forward', 'forward + backward'):
            record = {**common, 'form': form.name, 'pass': kind}
            record['status'] = status.get(form.name, 'ok')
            if kind in passes:
                record['traffic_mb'] = passes[kind].bytes / 1e6
                record['operators'] = len(passes[kind].operators)
            records.append(record)
    return records
