"""Count the bytes that operators read and write, without a GPU.

Each operator of PyTorch counts the unique elements of its inputs and outputs.
Views, empty tensors and casts of at most four elements cost nothing. A
convolution's backward pass is two kernels, which both read the gradient. The
network runs on fake CPU tensors, and mixed precision follows CUDA's lists.
"""

import shutil
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..ops.torch_versions import autocast_dtype
from . import forms
from .forms import Case, Settings
from .timing import noting_failure

PASSES = 'forward', 'forward + backward'
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


def count_kernels(module: nn.Module, x: Tensor, settings: Settings) -> int:
    """Count the kernels that Inductor makes of a training step on a CPU.

    Args:
        module (Module): Module, which gets compiled and runs once.
        x (Tensor): Its input.
        settings (Settings): Type of mixed precision.
    """
    # Imported here, as the compiler takes seconds.
    from torch._inductor import metrics

    metrics.reset()
    forms.compile_blocks(module.train())
    with settings.autocast('cpu'):
        y = module(x.requires_grad_())
    y.backward(torch.ones_like(y))
    return metrics.generated_kernel_count


def count_traffic(case: Case, settings: Settings) -> list[dict]:
    """Count what each form moves on one input.

    Args:
        case (Case): Input and settings of the block.
        settings (Settings): Type of the input; weights are float32. With
            ``compile``, the kernels of Inductor are counted, too.

    Returns:
        list[dict]: A record for each form and pass.
    """
    records, failed = [], {}
    for form in forms.choose_forms(case, replace(settings, compile=False)):
        with noting_failure(failed, form):
            records += count_form(form, case, settings)
    return records + [
        {'form': form, 'pass': PASSES[True], 'status': status}
        for form, status in failed.items()
    ]


def count_form(form: str, case: Case, settings: Settings) -> list[dict]:
    """Count what one form moves, without and with gradients."""
    build, dtype, records = forms.FORMS[form], settings.torch_dtype, []
    # A GPU's paths take other steps than a CPU's.
    on_gpu = mock.patch.object(Tensor, 'is_cpu', False)
    with FakeTensorMode(allow_non_fake_inputs=True), on_gpu:
        module, x = build(case), torch.empty(case.shape, dtype=dtype)
        if forms.AUTO in form:
            module.backend = 'reference'  # what it takes on a GPU
        for training in (False, True):
            x.requires_grad_(training)
            with torch.set_grad_enabled(training), TrafficCounter() as counter:
                with settings.autocast('cpu'), CudaLists():
                    y = module.train(training)(x)
                if training:
                    y.backward(torch.empty_like(y))
            record = {'form': form, 'pass': PASSES[training], 'status': 'ok'}
            record['traffic_mb'] = counter.bytes / 1e6
            records.append({**record, 'operators': len(counter.operators)})
    # A compiler takes the reference, whatever the path.
    compiles = form in (forms.AUTO, forms.LOOP, forms.NON_LOCAL)
    if settings.compile and compiles and shutil.which('g++'):
        x = torch.randn(case.shape).to(dtype)
        records[-1]['kernels'] = count_kernels(build(case), x, settings)
    return records
