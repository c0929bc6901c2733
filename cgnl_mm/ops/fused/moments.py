"""<phi^p, g> per sample and group from x, in two ways.

``MapSums`` forms the maps phi and g. ``GramSums`` needs neither: with
phi = W_phi x and g = W_g x,

    <phi, g> = sum_c (W_phi X X^T W_g^T)_cc

over the channels c of the group, and X X^T (C, C), being symmetric, costs
about as much as one of the two maps. Its backward pass has one product with
x where the maps have four. It serves the first power alone, and pays where
there are more positions than channels.

A backward pass adds to the gradient of x where there is one, and leaves out
the gradients that nobody asks for.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..torch_versions import autocast_dtype
from . import torch_steps as passes


class MapSums:
    """By the maps phi and g.

    Args:
        groups (int): Channel groups G.
        powers (list[int]): The powers p, ascending.
        recompute (bool): Whether the backward pass computes the maps again.
    """

    def __init__(
        self, groups: int, powers: List[int], recompute: bool
    ) -> None:
        self.groups, self.powers = groups, powers
        self.recompute = recompute

    def _maps(self, x: Tensor, phi: Tensor, g: Tensor) -> List[Tensor]:
        return [
            to_groups(passes.project(x.to(w.dtype), w), self.groups)
            for w in (phi, g)
        ]

    def forward(
        self, x: Tensor, phi: Tensor, g: Tensor
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """The sums, (B G,) for each power, and what the backward pass needs.

        Args:
            x (Tensor): (B, C, S).
            phi (Tensor): (C', C) weight.
            g (Tensor): (C', C) weight.
        """
        maps = self._maps(x, phi, g)
        sums = passes.inner_products(*maps, self.powers)
        return sums, [] if self.recompute else maps

    def backward(
        self,
        x: Tensor,
        phi: Tensor,
        g: Tensor,
        held: List[Tensor],
        d_sums: List[Tensor],
        d_x: Optional[Tensor],
        needed: Sequence[bool] = (True, True),
    ) -> List[Optional[Tensor]]:
        """Add to the gradient of x; return those of the two weights.

        Args:
            x (Tensor): As in :meth:`forward`, and ``phi``, ``g``.
            phi (Tensor): The same.
            g (Tensor): The same.
            held (list[Tensor]): What the forward pass returned.
            d_sums (list[Tensor]): Gradients of the sums.
            d_x (Tensor, optional): None where x needs none.
            needed (Sequence[bool]): Whether phi and g need one.
                Defaults to both.
        """
        maps = held or self._maps(x, phi, g)
        d_sums = dict(zip(self.powers, (d.view(-1, 1, 1) for d in d_sums)))
        if self.powers == [1]:
            # a float32 factor: alone, it would leave float16's range
            d_maps = d_sums[1] * maps[1], d_sums[1] * maps[0]
        else:
            d_maps = self._d_maps(*map(passes.wide, maps), d_sums)
        x_cast, d_weights = x.to(phi.dtype), []
        for weight, d_map, wanted in zip((phi, g), d_maps, needed):
            d_map = d_map.to(weight.dtype).view(len(x), -1, x.shape[-1])
            if d_x is not None:
                add_product(d_x, weight, d_map)
            d_weights.append(
                passes.weight_gradient(d_map, x_cast) if wanted else None
            )
        return d_weights

    @staticmethod
    def _d_maps(phi: Tensor, g: Tensor, d_sums: dict) -> Tuple:
        d_phi, d_g = torch.zeros_like(phi), torch.zeros_like(phi)
        power_map = torch.ones_like(phi)
        for power in range(max(d_sums, default=0) + 1):
            if power in d_sums:
                d_g = d_g + d_sums[power] * power_map
            if power + 1 in d_sums:
                factor = (power + 1) * d_sums[power + 1]
                d_phi = d_phi + factor * power_map
            power_map = power_map * phi
        return d_phi * g, d_g


class GramSums:
    """By the Gram matrix of x; the first power alone.

    It keeps (C, C) numbers a sample for the backward pass.

    Args:
        groups (int): Channel groups G.
        keep (bool): Whether the backward pass, if there is one, finds its
            matrices kept, or computes them again. Defaults to True.
    """

    def __init__(self, groups: int, keep: bool = True) -> None:
        self.groups, self.keep = groups, keep

    def forward(self, x, phi, g):
        """As :meth:`MapSums.forward`."""
        sums, held, doubles = [], [], (phi.double(), g.double())
        for sample in x:
            matrix, mean = centred_gram(sample)
            phi_mean, g_mean = (torch.mv(w, mean) for w in doubles)
            phi_x = torch.mm(phi, matrix)
            total = (phi_x * g).sum(1) + sample.shape[1] * phi_mean * g_mean
            sums.append(total.view(self.groups, -1).sum(1).to(phi.dtype))
            if self.keep:
                pairs = (phi_x, phi_mean), (torch.mm(g, matrix), g_mean)
                held += self._with_mean(pairs, mean, sample.shape[1])
        return [torch.cat(sums)], held

    @staticmethod
    def _with_mean(pairs, mean: Tensor, count: int) -> List[Tensor]:
        """phi X X^T and g X X^T, (C', C) each."""
        return [
            product.addr(
                weight_mean.to(product.dtype),
                mean.to(product.dtype),
                alpha=count,
            )
            for product, weight_mean in pairs
        ]

    def backward(self, x, phi, g, held, d_sums, d_x, needed=(True, True)):
        """As :meth:`MapSums.backward`."""
        if not held and any(needed):
            held, doubles = [], (phi.double(), g.double())
            for sample in x:
                matrix, mean = centred_gram(sample)
                pairs = [
                    (torch.mm(weight, matrix), torch.mv(double, mean))
                    for weight, double in zip((phi, g), doubles)
                ]
                held += self._with_mean(pairs, mean, sample.shape[1])
        rows = d_sums[0].view(len(x), -1, 1).to(phi.dtype)
        rows = rows.repeat_interleave(len(phi) // self.groups, 1)
        d_weights = [None, None]
        if any(needed):
            pairs = list(zip(rows, held[::2], held[1::2]))
            d_weights = [
                sum(row * g_x for row, _, g_x in pairs),
                sum(row * phi_x for row, phi_x, _ in pairs),
            ]
        if d_x is not None:
            matrices = torch.stack(
                [torch.mm(phi.t(), row * g) for row in rows]
            )
            add_product(d_x, matrices + matrices.mT, x)
        return [d if n else None for d, n in zip(d_weights, needed)]

    @staticmethod
    def obstacle(x: Tensor) -> Optional[str]:
        """Say why it does not serve an input; None if it does."""
        if x.dtype not in (torch.float32, torch.float64):
            return f'x in {x.dtype} loses the sums of its Gram matrix'
        if autocast_dtype(x.device.type) is not None:
            return 'autocast wants the products in half precision'
        return None


def centred_gram(x: Tensor) -> Tuple[Tensor, Tensor]:
    """Gram matrix (C, C) of x (C, S) without its mean, and the mean (C,).

    A mean far from zero would cancel where weights have learnt to ignore it;
    so would its own rounding, therefore it is float64.
    """
    mean = x.mean(1, keepdim=True)
    centred = x - mean
    # what is left is the rounding of the mean; float64 throughout is slow
    return gram(centred), (mean.double() + centred.mean(1, True)).squeeze(1)


def gram(x: Tensor, blocks: int = 4) -> Tensor:
    """X X^T (C, C) of x (C, S), of which a triangle of blocks is computed."""
    out = x.new_empty(len(x), len(x))
    step = -(-len(x) // blocks)
    for start in range(0, len(x), step):
        stop = min(start + step, len(x))
        torch.mm(x[start:stop], x[:stop].t(), out=out[start:stop, :stop])
        out[:start, start:stop] = out[start:stop, :start].t()
    return out


def to_groups(maps: Tensor, groups: int) -> Tensor:
    """(B, C', S) as (B G, k, S)."""
    return maps.view(len(maps) * groups, -1, maps.shape[-1])


def add_product(d: Tensor, weight: Tensor, maps: Tensor) -> None:
    """Add weight^T maps to d (B, C, S), whose type and layout stay."""
    weight = weight.expand(len(d), -1, -1)
    if d.dtype != maps.dtype:
        d.add_(torch.bmm(weight.mT, maps))
    elif d.is_contiguous():
        d.baddbmm_(weight.mT, maps)
    else:
        d.mT.baddbmm_(maps.mT, weight)
