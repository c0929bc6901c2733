"""Measure the block alone, in forms that were checked before."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..ops.accuracy import assert_as_exact, output_and_gradients
from . import forms
from .forms import Case, Settings
from .timing import measure, noting_failure

Tensors = dict[str, Tensor]


def measure_block(case: Case, settings: Settings) -> list[dict]:
    """Measure a block on one input: a record for each form and pass."""
    failed, modules, records = {}, {}, []
    inputs, floor, truth = expect(case, settings)
    x = inputs[1]
    for name in forms.choose_forms(case, settings):
        with noting_failure(failed, name):
            module = forms.FORMS[name](case).to(x)
            if name == forms.COMPILED:
                forms.compile_blocks(module)
            if name != forms.NON_LOCAL:
                require_right(name, module, inputs, floor, truth)
            modules[name] = module.to(x)
    for kind, make in PASSES.items():
        calls = {name: make(module, x) for name, module in modules.items()}
        records += measure(kind, calls, failed, settings)
    return records


def forward_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Make the call of a module in inference mode."""
    module.eval()
    return torch.inference_mode()(lambda: module(x))


def training_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Make the call that computes the gradients of x and all parameters."""
    x = x.detach().requires_grad_()
    inputs, d = [x, *module.train().parameters()], torch.randn_like(x)
    return lambda: torch.autograd.grad(module(x), inputs, d)


PASSES = {'forward': forward_call, 'forward + backward': training_call}


def expect(case: Case, settings: Settings) -> tuple[tuple, Tensors, Tensors]:
    """Run the reference path on a case, in the settings' type and float64.

    Returns:
        tuple: Weights, input and gradient of the output, in that type; what
        the path makes of them in that type, and in float64, by name.
    """
    torch.manual_seed(0)
    block = forms.build_cgnl(case, backend='reference')
    for name, weight in block.named_parameters():
        if weight.dim() > 1:  # So large that every sum counts.
            std = weight[0].numel() ** -0.5
            std *= 0.1 if name.startswith('phi') else 1
            nn.init.normal_(weight, std=std)
    # The type's rounding of the inputs is not an error of a form.
    place = settings.device, settings.torch_dtype
    x, d = torch.randn(2, *case.shape).to(*place)
    state = {k: v.to(*place) for k, v in block.state_dict().items()}
    truth = run(block, state, x.double(), d)
    return (state, x, d), run(block, state, x, d), truth


def require_right(
    name: str, module: nn.Module, inputs: tuple, floor: Tensors, truth: Tensors
) -> None:
    """Compare a form with the truth; leave the weights in its layers.

    The output and every gradient may be at most twice as far from float64 as
    those of the reference path in the same type are, plus rounding. The
    published loop rounds its long sums; it is compared in float64.

    Args:
        name (str): Name of the form.
        module (Module): Module of the form.
        inputs, floor, truth: What :func:`expect` returned.

    Raises:
        AssertionError: If a tensor deviates; it tells which, and how much.
    """
    state, x, d = inputs
    # Sums come in another order, and half precision may round once more.
    slack = torch.finfo(x.dtype).eps * (32 if x.dtype.itemsize > 2 else 0.5)
    if name == forms.LOOP:
        x, floor, slack = x.double(), truth, 1e-9
    found = run(module, state, x, d)
    assert_as_exact(found, floor, truth, slack=slack)


def run(module: nn.Module, state: Tensors, x: Tensor, d: Tensor) -> Tensors:
    """Return the outputs and the gradients by name, in the type of x."""
    module.to(x).train().load_state_dict(state)
    # Beside the usual eps the norm cancels the attention, and the gradients
    # of phi and g are rounding noise (ops/README.md).
    module.norm.eps = 1.0
    x = x.detach().requires_grad_()
    out = module(x)
    leaves = dict(x=x, **dict(module.named_parameters()))
    tensors = output_and_gradients(out, d.to(out), leaves)
    with torch.inference_mode():
        tensors['out in inference'] = module.eval()(x.detach())
    return {
        name: value.clone().cpu().double() for name, value in tensors.items()
    }
