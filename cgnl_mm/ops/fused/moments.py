"""The moments <phi^p, g> of each sample and group, in two ways.

:class:`MomentsFromMaps` forms the maps phi and g. :class:`MomentsFromGram`
needs neither: with phi = W_phi x and g = W_g x,

    <phi, g> = sum_c (W_phi X X^T W_g^T)_cc

over the channels c of a group. The Gram matrix X X^T (C, C) is symmetric, so
it costs about as much as one of the two maps. Its backward pass has one
product with x in place of four. It serves the first power alone, and it pays
where there are more positions than channels.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..powers import moments_gradient
from . import torch_steps as steps
from .series import Moments


class MomentsFromMaps:
    """Compute the moments from the maps phi and g.

    Args:
        groups (int): Number of channel groups G.
        powers (list[int]): The powers p, ascending.
        inputs (tuple[Tensor, Tensor, Tensor]): x (B, C, S), and the weights
            phi and g (C', C).
    """

    def __init__(
        self, groups: int, powers: List[int], *inputs: Tensor
    ) -> None:
        self.groups, self.powers, self.inputs = groups, powers, inputs

    def _maps(self) -> List[Tensor]:
        x, *weights = self.inputs
        return [steps.project(x, weight, self.groups) for weight in weights]

    def forward(self, keep: bool) -> Tuple[Moments, List[Tensor]]:
        """Return <phi^p, g> (B G,) by power p, and what backward needs.

        Args:
            keep (bool): Whether backward gets tensors that it would compute
                again otherwise.
        """
        maps = self._maps()
        return steps.moments(*maps, self.powers), maps if keep else []

    def backward(
        self,
        kept: List[Tensor],
        d_moments: Moments,
        d_x: Optional[Tensor],
        needed: Sequence[bool] = (True, True),
    ) -> List[Optional[Tensor]]:
        """Add to the gradient of x, and return those of phi and g.

        Args:
            kept (list[Tensor]): What :meth:`forward` returned, if anything;
                it may get empty.
            d_moments (dict[int, Tensor]): Gradients of the moments.
            d_x (Tensor, optional): Gradient of x; None if x needs none.
            needed (Sequence[bool]): Whether phi and g need a gradient; one
                that is not needed is None. Defaults to both.
        """
        (x, *weights), d_weights = self.inputs, []
        x = x.to(weights[0].dtype)
        d_moments = {p: d.view(-1, 1, 1) for p, d in d_moments.items()}
        d_maps = [*moments_gradient(*(kept or self._maps()), d_moments)]
        kept.clear()
        for weight, is_needed in zip(weights, needed):
            d_map = d_maps.pop(0)  # It is gone while the next one is used.
            d_map = d_map.to(weight.dtype).reshape(len(x), -1, x.shape[-1])
            if d_x is not None:
                steps.add_product(d_x, weight, d_map)
            d_weights.append(
                steps.weight_gradient(d_map, x) if is_needed else None
            )
        return d_weights


class MomentsFromGram(MomentsFromMaps):
    """Compute <phi, g> from the Gram matrix of x, without the maps.

    Two matrices (C', C) are kept for each sample, in place of the maps.
    """

    def forward(self, keep: bool) -> Tuple[Moments, List[Tensor]]:
        """Compute as :meth:`MomentsFromMaps.forward`."""
        (x, phi, g), moments, kept = self.inputs, [], []
        wide_phi, wide_g = phi.double(), g.double()
        for sample in x:
            off_diagonal, squares, mean = centred_gram(sample)
            phi_mean, g_mean = torch.mv(wide_phi, mean), torch.mv(wide_g, mean)
            phi_x = torch.mm(phi, off_diagonal).addcmul_(phi, squares)
            rows = (phi_x * wide_g).sum(1) + x.shape[-1] * phi_mean * g_mean
            moments.append(rows.view(self.groups, -1).sum(1).to(phi.dtype))
            if keep:
                g_x = torch.mm(g, off_diagonal).addcmul_(g, squares)
                for product, vector in ((phi_x, phi_mean), (g_x, g_mean)):
                    vectors = vector.to(g.dtype), mean.to(g.dtype)
                    kept.append(product.addr(*vectors, alpha=x.shape[-1]))
        return {1: torch.cat(moments)}, kept

    def backward(
        self,
        kept: List[Tensor],
        d_moments: Moments,
        d_x: Optional[Tensor],
        needed: Sequence[bool] = (True, True),
    ) -> List[Optional[Tensor]]:
        """Compute as :meth:`MomentsFromMaps.backward`."""
        x, phi, g = self.inputs
        if not kept and any(needed):
            _, kept = self.forward(keep=True)
        rows = d_moments[1].view(len(x), -1, 1).to(phi.dtype)
        rows = rows.repeat_interleave(len(phi) // self.groups, 1)
        if d_x is not None:
            for row, *sample in zip(rows, d_x.split(1), x.split(1)):
                matrix = torch.mm(phi.t(), row * g)
                steps.add_product(sample[0], matrix + matrix.t(), sample[1])
        products = zip((kept[1::2], kept[::2]), needed)
        return [
            sum(map(torch.mul, rows, p)) if n else None for p, n in products
        ]


def centred_gram(x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return :func:`gram` of x (C, S) less its mean, and the mean.

    A mean far from zero would cancel where weights have learnt to ignore it.
    So would its rounding error, so the mean (C,) is float64.
    """
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    # The rest is the rounding error of the mean; float64 throughout is slow.
    return *gram(centred), (mean.double() + centred.mean(1, True)).squeeze(1)


def gram(x: Tensor, length: int = 192) -> Tuple[Tensor, Tensor]:
    """Return X X^T (C, C) of x (C, S) without its diagonal, and the diagonal.

    The matrix comes from a triangle of its blocks. A matrix product adds one
    term after the other, so it gets short pieces of x. The squares on the
    diagonal (C,) are far larger than the rest: any sum of both would lose a
    digit.
    """
    out, squares = x.new_zeros(len(x), len(x)), x.new_empty(len(x))
    step = -(-len(x) // 4)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        block = out[rows, : rows.stop]
        for piece in x.split(length, 1):
            block.addmm_(piece[rows], piece[: rows.stop].t())
        squares[rows] = x[rows].square().sum(1)
        out[:start, rows] = block[:, :start].t()
    return out.fill_diagonal_(0), squares
