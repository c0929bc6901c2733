"""Check that a form computes the CGNL block before it is timed."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from .cases import Case
from .forms import Form, build_cgnl
from .settings import Settings

# Share of a tensor's largest value by which it may deviate besides. Sums come
# in another order, and half precision may round once more.
ROUNDING = {
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
    # A batch more of the same maps does not ask again.
    case = replace(case, name='', batch=1)
    dtype = settings.torch_dtype if form.backend else torch.float64
    layout = settings.memory_format(case.rank)
    return deviation(form, case, settings.device, dtype, layout)


@lru_cache(maxsize=None)
def deviation(form: Form, case: Case, *where) -> str | None:
    inputs, truth, allowed = expectation(case, *where)
    result = run(form.build(case), *inputs, *where)
    for name, error in largest_errors(result, truth).items():
        if not error <= allowed[name]:  # A NaN fails the comparison.
            return (
                f'{name} is {error:.2g} from the float64 truth, '
                f'{allowed[name]:.2g} is allowed'
            )
    return None


@lru_cache(maxsize=2)
def expectation(case: Case, *where):
    """Return inputs, the float64 truth and the error each tensor may have."""
    device, dtype, _ = where
    torch.manual_seed(0)
    reference = build_cgnl(case, 'reference')
    for name, weight in reference.named_parameters():
        if weight.dim() > 1:  # So large that every sum counts.
            std = weight[0].numel() ** -0.5
            std *= 0.1 if name.startswith('phi') else 1
            nn.init.normal_(weight, std=std)
    # The type's rounding of the inputs is not an error of a form.
    inputs = [
        {k: v.to(dtype) for k, v in reference.state_dict().items()},
        torch.randn(case.shape).to(dtype),
        torch.randn(case.shape).to(dtype),
    ]
    exact = device, torch.float64, torch.contiguous_format
    truth = run(reference, *inputs, *exact)
    errors = largest_errors(run(reference, *inputs, *where), truth)
    allowed = {
        name: 2 * error + ROUNDING[dtype] * truth[name].abs().max().item()
        for name, error in errors.items()
    }
    return inputs, truth, allowed


def run(
    module: nn.Module, state, x, d_out, device, dtype, memory_format
) -> dict[str, Tensor]:
    """Return outputs and gradients by name, in float64."""
    layers = getattr(module, '_orig_mod', module)  # torch.compile wraps it.
    module.to(device, dtype).train()
    layers.load_state_dict(state)
    # Beside the usual eps the norm cancels the attention, and the gradients
    # of phi and g are rounding noise (ops/README.md).
    layers.norm.eps = 1.0
    x = x.to(device, dtype).contiguous(memory_format=memory_format)
    out = module(x.requires_grad_())
    names, parameters = zip(*layers.named_parameters())
    grads = torch.autograd.grad(out, [x, *parameters], d_out.to(out))
    tensors = dict(output=out.detach())
    for name, grad in zip(['x', *names], grads):
        tensors[f'gradient of {name}'] = grad
    module.eval()
    with torch.inference_mode():
        tensors['output in inference'] = module(x.detach())
    return {name: value.clone().double() for name, value in tensors.items()}


def largest_errors(result: dict, truth: dict) -> dict[str, float]:
    return {
        name: (result[name] - value).abs().max().item()
        for name, value in truth.items()
    }
