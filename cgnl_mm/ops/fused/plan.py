"""What the fused block is given beside its input: settings and weights."""

from dataclasses import dataclass
from typing import NamedTuple, Optional

from torch import Tensor

from .series import Series


class Weights(NamedTuple):
    """The tensors that a block learns.

    Attributes:
        theta (Tensor): (C', C) weight of a 1x1 convolution.
        z (Tensor): (C, C' / G) weight of the grouped 1x1 convolution W_z.
        norm_weight (Tensor): (C,) weight of the norm.
        norm_bias (Tensor): (C,) bias of the norm.
        phi (Tensor, optional): (C', C); None without attention.
        g (Tensor, optional): (C', C); None without attention.
        coefficients (Tensor, optional): Coefficients of the series, if they
            are trained.
    """

    theta: Tensor
    z: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    phi: Optional[Tensor] = None
    g: Optional[Tensor] = None
    coefficients: Optional[Tensor] = None


@dataclass(frozen=True)
class Norm:
    """How a norm takes its statistics, before it scales and shifts channels.

    Attributes:
        groups (int): Channel groups N that share their statistics: G for
            GroupNorm(G), C for instance and batch norm.
        eps (float): Constant that is added to the variance.
        over_batch (bool): Whether all samples share their statistics (batch
            norm in training).
        mean (Tensor, optional): (N,) given mean, so that no statistics are
            computed (batch norm in evaluation).
        var (Tensor, optional): (N,) given variance.
    """

    groups: int
    eps: float = 1e-5
    over_batch: bool = False
    mean: Optional[Tensor] = None
    var: Optional[Tensor] = None


@dataclass(frozen=True)
class Plan:
    """How a block is computed.

    Attributes:
        groups (int): Channel groups G of the operator and of W_z.
        norm (Norm): How the norm takes its statistics.
        series (Series): The attention.
        use_gram (bool): Whether the moments come from the Gram matrix of x,
            without the maps phi and g. Only the dot product allows it.
        recompute (bool): Whether the backward pass computes theta, phi and g
            again. Otherwise they are kept.
    """

    groups: int
    norm: Norm
    series: Series
    use_gram: bool = False
    recompute: bool = False
