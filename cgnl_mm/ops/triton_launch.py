"""How the Triton kernels of the folded block are launched."""

import math

import torch
from torch import Tensor

# k x k matrices have to fit into registers
MAX_INNER_CHANNELS = 128


def launch(kernel, programs: int, *args, **constants) -> None:
    """Run a kernel on the device of the first of its arguments."""
    device = args[0].device
    if device.type == 'cpu':
        kernel[(programs,)](*args, **constants)
        return
    # Triton launches on the current device
    with torch.cuda.device(device):
        kernel[(programs,)](*args, **constants)


def precision_of(*factors: Tensor, exact: bool = False) -> str:
    """How tl.dot multiplies these factors, widened to float32.

    TF32 has 11 significant bits: all of half-precision maps, fewer than a
    float32 factor beside them, which it cuts off. Where there is one, or the
    result has to be ``exact`` to float32, three products of TF32 take the
    place of one.
    """
    dtypes = {x.dtype for x in factors}
    if dtypes == {torch.float32} and not tf32_allowed():
        return 'ieee'
    if torch.version.hip is not None:
        return 'ieee'
    if torch.float32 not in dtypes:
        return 'tf32'
    return 'tf32x3' if exact or len(dtypes) > 1 else 'tf32'


def tf32_allowed() -> bool:
    """Whether the user lets float32 products run in TF32."""
    if torch.version.hip is not None:
        return False
    matmul = torch.backends.cuda.matmul
    try:  # torch.compile knows this flag alone
        return matmul.allow_tf32
    except RuntimeError:  # the user has set the new one, of torch 2.9
        return matmul.fp32_precision == 'tf32'


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient, rounded up."""
    return -(-numerator // denominator)


def alignment(*sizes: int) -> int:
    """The largest power of two up to 16 that divides all."""
    return math.gcd(16, *sizes)


def padded(size: int, most: int = MAX_INNER_CHANNELS) -> int:
    """To a power of two that tl.dot takes, at least 16."""
    block = 16
    while block < min(size, most):
        block *= 2
    return block


def terms_at_once(precision: str) -> int:
    """Terms of a product in registers at a time; more would spill."""
    return 16 if precision == 'ieee' else 32


def warps(inner: int) -> int:
    """For tiles with an axis of ``inner`` channels."""
    return 8 if inner > 64 else 4
