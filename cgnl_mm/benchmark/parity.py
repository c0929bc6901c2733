"""A form is timed only after it was right: forward and every gradient.

Truth is the block in float64 around the literal operator, which forms the
affinity; at full size, where that does not fit, around the linear one. The
rule is that of flash-attention's tests: a form may be at most twice as far
from it as the reference in the same type, plus rounding.
"""

import math
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from cgnl_mm.ops import generalized_nonlocal, taylor_coefficients

from .forms import Case, Form, build_cgnl

# entries of the affinity: 128 MiB
LARGEST_AFFINITY = 2**24
# The errors of a tensor may hang on the rounding of a few sums: of one draw
# they scatter by more than the factor of two.
DRAWS = 4


def reduced(case: Case) -> Case:
    """The same channels, groups, series and rank on few positions."""
    side = math.isqrt(LARGEST_AFFINITY // (2 * case.groups))
    side //= case.inner // case.groups
    size = [1] * case.rank
    # odd sizes, the last axis first
    for axis, extent in zip(reversed(range(case.rank)), (7, 5, 3)):
        if extent <= side:
            size[axis], side = extent, side // extent
    return replace(case, name='', batch=2, size=tuple(size))


def find_deviation(
    form: Form,
    case: Case,
    device: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> str | None:
    """Compare a form with the truth; one of ours also at full size.

    That shows what long sums and many blocks of a kernel do. The published
    algorithm is a yardstick, its long sums are what they are.

    Args:
        form (Form): One that computes the CGNL block.
        case (Case): What is to be timed.
        device (str): Where.
        dtype (dtype): Of input and weights.
        memory_format (memory_format): Of the input.
            Defaults to contiguous.

    Returns:
        str | None: What differs by how much; None if nothing does.
    """
    where = (device, dtype, memory_format)
    sizes = [(reduced(case), True)]
    if form.is_ours:
        sizes.append((one_sample(case), False))
    for size, literal in sizes:
        draws, truth, allowed = _expectation(size, literal, *where)
        module = form.build(size)
        runs = [_run(module, *draw, *where) for draw in draws]
        for name, error in _errors(runs, truth).items():
            if not error <= allowed[name]:  # NaN is none
                return (
                    f'{name} is {error:.2g} from the float64 truth, '
                    f'{allowed[name]:.2g} is allowed, at {size.positions} '
                    'positions'
                )
    return None


def one_sample(case: Case) -> Case:
    """A case at full size, but for its batch."""
    return replace(case, name='', batch=1)


@lru_cache(maxsize=4)
def _expectation(case: Case, literal: bool, *where):
    """Draws, the truth for each, and the allowed error of each tensor."""
    device, dtype, _ = where
    generator = torch.Generator().manual_seed(0)
    exact = device, torch.float64, torch.contiguous_format
    draws = [
        _draw(case, dtype, generator) for _ in range(DRAWS if literal else 1)
    ]
    reference = build_cgnl(case, 'reference')
    operator = partial(_exact, case=case) if literal else None
    truth = [_run(reference, *draw, *exact, operator) for draw in draws]
    results = [_run(reference, *draw, *where) for draw in draws]
    # float32 sums over the channels in another order, and one rounding more
    # in half precision
    rounding = max(
        max(16, math.sqrt(case.channels)) * torch.finfo(torch.float32).eps,
        torch.finfo(dtype).eps / 2,
    )
    allowed = {
        name: 2 * error
        + rounding * max(result[name].abs().max().item() for result in truth)
        for name, error in _errors(results, truth).items()
    }
    return draws, truth, allowed


def _draw(case: Case, dtype: torch.dtype, generator: torch.Generator):
    """Weights, input and gradient of the output, in numbers of that type.

    So its rounding of them is not taken for an error of a form.
    """

    def normal(shape, std=1.0):
        return (std * torch.randn(shape, generator=generator)).to(dtype)

    state = {}
    for name, weight in build_cgnl(case, 'reference').state_dict().items():
        if name.startswith('norm'):
            state[name] = normal(weight.shape, 0.3)
            state[name] += name == 'norm.weight'
        else:  # large enough for every sum to count
            std = weight[0].numel() ** -0.5
            std *= 0.1 if name.startswith('phi') else 1
            state[name] = normal(weight.shape, std)
    return state, normal(case.shape), normal(case.shape)


def _run(
    module, state, x, d, device, dtype, memory_format, function=None
) -> dict[str, Tensor]:
    """Output, gradients and output in inference by name, in float64."""
    layers = getattr(module, '_orig_mod', module)  # of torch.compile
    module.to(device, dtype).train()
    layers.load_state_dict(state)
    # beside the usual eps the norm cancels the attention, and the gradients
    # of phi and g are rounding noise (ops/README.md)
    layers.norm.eps = 1.0
    x = x.to(device, dtype).contiguous(memory_format=memory_format)
    x.requires_grad_()
    call = module if function is None else partial(function, module)
    out = call(x)
    names, parameters = zip(*layers.named_parameters())
    grads = torch.autograd.grad(out, [x, *parameters], d.to(device, dtype))
    module.eval()
    with torch.inference_mode():
        inferred = call(x.detach())
    names = ['output', 'gradient of x'] + [
        f'gradient of {name}' for name in names
    ]
    values = (out.detach(), *grads, inferred)
    return {
        name: value.clone().double()
        for name, value in zip([*names, 'output in inference'], values)
    }


def _errors(results: list[dict], truth: list[dict]) -> dict[str, float]:
    """Largest difference of each tensor in all draws."""
    return {
        name: torch.stack(
            [(a[name] - b[name]).abs().max() for a, b in zip(results, truth)]
        )
        .max()
        .item()
        for name in truth[0]
    }


def _exact(block: nn.Module, x: Tensor, case: Case) -> Tensor:
    """A block's layers around the operator that forms the affinity."""
    y = generalized_nonlocal(
        block.theta(x),
        block.phi(x),
        block.g(x),
        taylor_coefficients(case.mode, case.order),
        case.groups,
    )
    return x + block.norm(block.conv_out(y))
