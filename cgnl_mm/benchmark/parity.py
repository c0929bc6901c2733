"""Check that a form computes the CGNL block before it is timed."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..ops.accuracy import assert_as_exact, output_and_gradients
from .cases import Case
from .forms import Form, build_cgnl
from .settings import Settings

# Relative error that is always allowed. Sums come in another order, and half
# precision may round once more.
SLACK = {
    torch.float64: 1e-9,
    torch.float32: 32 * torch.finfo(torch.float32).eps,
    torch.bfloat16: torch.finfo(torch.bfloat16).eps / 2,
    torch.float16: torch.finfo(torch.float16).eps / 2,
}


def find_deviation(form: Form, case: Case, settings: Settings) -> str | None:
    """Compare a form with the reference path in float64, at full size.

    The output and every gradient of one sample may be at most twice as far
    from float64 as the reference path in the same type is, plus rounding.
    The published loop rounds its long sums; it is compared in float64.

    Args:
        form (Form): Form that computes the CGNL block.
        case (Case): Case that is to be timed.
        settings (Settings): Device, type and layout.

    Returns:
        str | None: Tensor that deviates, and by how much; None if all agree.
    """
    # Another batch of the same maps does not ask again.
    case = replace(case, name='', batch=1)
    dtype = settings.torch_dtype if form.backend else torch.float64
    layout = settings.memory_format(case.rank)
    return deviation(form, case, settings.device, dtype, layout)


@lru_cache(maxsize=None)
def deviation(form: Form, case: Case, *where) -> str | None:
    inputs, floor, truth = expectation(case, *where)
    found = run(form.build(case), *inputs, *where)
    try:
        assert_as_exact(found, floor, truth, slack=SLACK[where[1]])
    except AssertionError as error:
        return str(error)
    return None


@lru_cache(maxsize=2)
def expectation(case: Case, device, dtype, layout):
    """Return inputs, and what the reference path makes of them.

    Returns:
        tuple: State of the layers, input and gradient of the output; tensors
        in the type; tensors in float64.
    """
    torch.manual_seed(0)
    block = build_cgnl(case, 'reference')
    for name, weight in block.named_parameters():
        if weight.dim() > 1:  # So large that every sum counts.
            std = weight[0].numel() ** -0.5
            std *= 0.1 if name.startswith('phi') else 1
            nn.init.normal_(weight, std=std)
    # The type's rounding of the inputs is not an error of a form.
    x, d = torch.randn(2, *case.shape).to(dtype)
    state = {k: v.to(dtype) for k, v in block.state_dict().items()}
    truth = run(block, state, x, d, device, torch.float64, layout)
    floor = run(block, state, x, d, device, dtype, layout)
    return (state, x, d), floor, truth


def run(
    module: nn.Module, state, x, d, device, dtype, layout
) -> dict[str, Tensor]:
    """Return the outputs and the gradients by name."""
    layers = getattr(module, '_orig_mod', module)  # torch.compile wraps it.
    module.to(device, dtype).train()
    layers.load_state_dict(state)
    # Beside the usual eps the norm cancels the attention, and the gradients
    # of phi and g are rounding noise (ops/README.md).
    layers.norm.eps = 1.0
    x = x.detach().to(device, dtype, memory_format=layout)
    leaves = dict(x=x.requires_grad_(), **dict(layers.named_parameters()))
    out = module(x)
    tensors = output_and_gradients(out, d.to(out), leaves)
    module.eval()
    with torch.inference_mode():
        tensors['out in inference'] = module(x.detach())
    return {
        name: value.clone().cpu().double() for name, value in tensors.items()
    }
