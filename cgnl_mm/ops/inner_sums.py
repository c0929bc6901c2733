"""<phi^p, g> per sample and group from x, in two ways.

``MapSums`` forms the maps phi and g. ``GramSums`` needs neither: with
phi = W_phi x and g = W_g x,

    <phi, g> = sum_c (W_phi X X^T W_g^T)_cc

over the channels c of the group, and X X^T (C, C), being symmetric, costs
about as much as one of the two maps. Its backward pass has one product with
x where the maps have four. It serves the first power alone, and pays where
there are more positions than channels.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from . import passes


class MapSums:
    """By the maps phi and g.

    Args:
        groups (int): Channel groups G.
        powers (list[int]): The powers p, ascending.
        recompute (bool): Whether the backward pass computes the maps again.
        kernels (module): The passes over feature maps.
    """

    def __init__(
        self, groups: int, powers: List[int], recompute: bool, kernels
    ) -> None:
        self.groups, self.powers = groups, powers
        self.recompute, self.kernels = recompute, kernels

    def _maps(self, x: Tensor, phi: Tensor, g: Tensor) -> List[Tensor]:
        return [
            to_groups(self.kernels.project(x.to(w.dtype), w), self.groups)
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
        sums = self.kernels.inner_products(*maps, self.powers)
        return sums, [] if self.recompute else maps

    def backward(
        self,
        x: Tensor,
        phi: Tensor,
        g: Tensor,
        held: List[Tensor],
        d_sums: List[Tensor],
        d_x: Tensor,
    ) -> List[Tensor]:
        """Add to the gradient of x; return those of the two weights."""
        maps = held or self._maps(x, phi, g)
        d_sums = dict(zip(self.powers, (d.view(-1, 1, 1) for d in d_sums)))
        if self.powers == [1]:
            factor = d_sums[1].to(maps[0].dtype)
            d_maps = factor * maps[1], factor * maps[0]
        else:
            d_maps = self._d_maps(*map(passes.wide, maps), d_sums)
        x_cast, d_weights = x.to(phi.dtype), []
        for weight, d_map in zip((phi, g), d_maps):
            d_map = d_map.to(weight.dtype).view(len(x), -1, x.shape[-1])
            add_product(d_x, weight, d_map)
            d_weights.append(passes.weight_gradient(d_map, x_cast))
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
        keep (bool): Whether there will be a backward pass.
    """

    def __init__(self, groups: int, keep: bool) -> None:
        self.groups, self.keep = groups, keep

    def forward(self, x, phi, g):
        """As :meth:`MapSums.forward`."""
        sums, held = [], []
        for sample in x:
            matrix = gram(sample)
            phi_x = torch.mm(phi, matrix)
            sums.append((phi_x * g).view(self.groups, -1).sum(1))
            if self.keep:
                held += [phi_x, torch.mm(g, matrix)]
        return [torch.cat(sums)], held

    def backward(self, x, phi, g, held, d_sums, d_x):
        """As :meth:`MapSums.backward`."""
        d_phi, d_g = torch.zeros_like(phi), torch.zeros_like(g)
        rows = d_sums[0].view(len(x), -1, 1)
        rows = rows.repeat_interleave(len(phi) // self.groups, 1)
        matrices = []
        for row, phi_x, g_x in zip(rows.to(phi.dtype), held[::2], held[1::2]):
            d_phi.addcmul_(row, g_x)
            d_g.addcmul_(row, phi_x)
            matrices.append(torch.mm(phi.t(), row * g))
        matrices = torch.stack(matrices)
        add_product(d_x, matrices + matrices.mT, x)
        return [d_phi, d_g]

    @staticmethod
    def obstacle(x: Tensor) -> Optional[str]:
        """Say why it does not serve an input; None if it does."""
        if x.dtype not in (torch.float32, torch.float64):
            return f'x in {x.dtype} loses the sums of its Gram matrix'
        if torch.is_autocast_enabled(x.device.type):
            return 'autocast wants the products in half precision'
        return None


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
