"""The Compact Generalized Non-local block.

Paper: Yue et al., "Compact Generalized Non-local Network", NeurIPS 2018,
arXiv 1810.13125. Reference code: github.com/KaiyuYue/cgnl-network.pytorch.
"""

import math
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ..ops import taylor_coefficients
from . import paths
from .norm import build_norm
from .settings import check_settings

# The author draws all four convolutions from N(0, 0.01), for 1,024 channels.
AUTHORS_STD, AUTHORS_CHANNELS = 0.01, 1024


class _CGNLNd(nn.Module):
    r"""Compact Generalized Non-local block (paper, Eq. 12 and 13).

    ::

        x (B, C, *S) -+-> theta (1x1, C -> C') ---------------------+
                      +-> phi   (1x1, C -> C') -+                   |
                      +-> g     (1x1, C -> C') -+-> <phi^p, g> -> sum_p
                      |       per sample, group and power p         |
                      |            W_z (1x1, groups, C' -> C) <-----+
                      |                        norm
                      +------------------------> + --> out (B, C, *S)

    No affinity is formed: the cost is linear in C' * S. By default the weight
    of the norm starts at zero, so a new block is the identity.

    With the default norm (GroupNorm of the same groups, as in the author's
    code) and the dot product, the output depends on little more than the
    sign of a group's attention. Read ``cgnl_mm/ops/README.md`` before you
    tune the block.

    Args:
        in_channels (int): Channels C of the input.
        groups (int): Channel groups G of the attention, of W_z and of the
            default norm. It must divide C'. Defaults to 8.
        reduction (int): C / C'. Defaults to 2.
        mode (str): Kernel: 'dot_product', 'embedded_gaussian',
            'gaussian_rbf' (all by their Taylor series), 'learnable'
            (``order + 1`` trained coefficients, which start as the dot
            product), or 'none' for the paper's residual control: the block
            without attention, norm(W_z theta) + x.
            Defaults to 'dot_product'.
        order (int): Highest power P of the series, up to 100. The dot
            product is exact at any order from 1 on. Defaults to 3.
        gamma (float): Inverse squared width of the RBF kernel.
            Defaults to 1e-4.
        use_scale (bool): Whether to divide the inner products by
            sqrt(C' / G * S). The author found False slightly better.
            Defaults to False.
        norm_cfg (dict | bool, optional): Norm after W_z. None: GroupNorm
            with ``groups`` groups (the author's code);
            ``dict(type='GN', num_groups=1)``; ``dict(type='BN')``,
            ``dict(type='SyncBN')`` (the paper's text); the class of any norm
            over channels that has a weight; False: no norm, ``norm_weight``
            acts on W_z instead. Defaults to None.
        init_std (float, optional): Standard deviation of the normal
            initialisation of the convolutions. None: 0.32 / sqrt(C), which is
            the author's 0.01 at 1,024 channels (``docs/start.md``).
            Defaults to None.
        norm_weight (float): First weight of the norm. With 0 the block starts
            as the identity; 0.1 suits a network that is trained from scratch.
            Without a norm, it multiplies the first W_z. Defaults to 0.0.
        backend (str): Path that computes the block: 'reference' (one layer
            after the other), 'folded' (all as one function,
            ``cgnl_mm/ops/fused``), 'gram' (the same, with the moments from
            the Gram matrix of x) or 'auto' (the fastest by measurement). The
            results differ by rounding. Derivatives of derivatives (a gradient
            penalty) need 'reference' and float32. Defaults to 'auto'.
        recompute (bool): Whether the backward pass computes the maps inside
            the block again: less memory, more time. Under ``torch.compile``
            the compiler decides that by itself. Defaults to False.
        init_cfg (dict | list[dict], optional): OpenMMLab initialisation that
            ``init_weights`` applies after the block's own. Defaults to None.

    Raises:
        ValueError: If a number is out of range, reduction does not divide C
            or groups C', the mode is unknown or the norm does not fit.
        TypeError: If ``norm_cfg`` is not a dict, None or False.
    """

    rank: int
    conv_type: type
    _abbr_ = 'cgnl'  # mmcv's name for a plugin: layer3.cgnl_4

    def __init__(
        self,
        in_channels: int,
        groups: int = 8,
        reduction: int = 2,
        mode: str = 'dot_product',
        order: int = 3,
        gamma: float = 1e-4,
        use_scale: bool = False,
        norm_cfg: Union[dict, bool, None] = None,
        init_std: Optional[float] = None,
        norm_weight: float = 0.0,
        backend: str = 'auto',
        recompute: bool = False,
        init_cfg: Optional[Union[dict, list]] = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.groups = in_channels, groups
        self.reduction, self.mode, self.order = reduction, mode, order
        self.gamma, self.use_scale = gamma, use_scale
        self.norm_cfg, self.init_std = norm_cfg, init_std
        self.norm_weight, self.backend = norm_weight, backend
        self.recompute, self.init_cfg = recompute, init_cfg
        self.is_init = False  # MMEngine calls init_weights while it is.
        check_settings(self)

        self.inter_channels = inner = in_channels // reduction
        conv = self.conv_type
        self.theta = conv(in_channels, inner, 1, bias=False)
        if mode != 'none':
            self.phi = conv(in_channels, inner, 1, bias=False)
            self.g = conv(in_channels, inner, 1, bias=False)
        self.conv_out = conv(inner, in_channels, 1, groups=groups, bias=False)
        self.norm = build_norm(norm_cfg, in_channels, groups, self.rank)
        kernel = 'dot_product' if mode == 'learnable' else mode
        self.coefficients = ()
        if mode != 'none':
            self.coefficients = taylor_coefficients(kernel, order, gamma)
        if mode == 'learnable':
            self.coefficients = nn.Parameter(torch.tensor(self.coefficients))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions, and set the norm to its first weight."""
        std = self.init_std
        if std is None:
            std = AUTHORS_STD * math.sqrt(AUTHORS_CHANNELS / self.in_channels)
        for layer in self.children():
            if isinstance(layer, self.conv_type):
                nn.init.normal_(layer.weight, std=std)
        if isinstance(self.norm, nn.Identity):
            with torch.no_grad():
                self.conv_out.weight *= self.norm_weight
        else:
            nn.init.constant_(self.norm.weight, self.norm_weight)
            if getattr(self.norm, 'bias', None) is not None:
                nn.init.zeros_(self.norm.bias)
        if self.mode == 'learnable':
            with torch.no_grad():
                self.coefficients.zero_()[1] = 1

    def init_weights(self) -> None:
        """Restore the initial state, whatever a host's initialisation did.

        A second call has no effect, as for every module of MMEngine.
        """
        if self.is_init:
            return
        self.reset_parameters()
        if self.init_cfg:
            # Only a config of OpenMMLab has an init_cfg.
            from mmengine.model import initialize

            initialize(self, self.init_cfg)
        self.is_init = True

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each channel group, over all positions.

        Args:
            x (Tensor): (B, C, W), (B, C, H, W) or (B, C, T, H, W).

        Returns:
            Tensor: Same shape and type.

        Raises:
            ValueError: If x has another rank or number of channels.
            RuntimeError: If ``backend`` names a path that cannot run.
        """
        if x.dim() != self.rank + 2 or x.shape[1] != self.in_channels:
            axes = ', '.join('THW'[3 - self.rank :])
            raise ValueError(
                f'{type(self).__name__} expects (B, {self.in_channels}, '
                f'{axes}), got shape {tuple(x.shape)}'
            )
        return paths.run(self, x, paths.choose(self, x))

    def scale(self, positions: int) -> float:
        """Return the factor of the inner products of so many positions."""
        size = self.inter_channels // self.groups * positions
        return size**-0.5 if self.use_scale else 1.0

    def extra_repr(self) -> str:
        """Return the settings that the children do not show."""
        text = f'mode={self.mode!r}, groups={self.groups}'
        if self.mode not in ('dot_product', 'none'):
            text += f', order={self.order}'
        if self.mode == 'gaussian_rbf':
            text += f', gamma={self.gamma}'
        if self.mode != 'none':
            text += f', use_scale={self.use_scale}'
        return text


class CGNL1d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank, conv_type = 1, nn.Conv1d


class CGNL2d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank, conv_type = 2, nn.Conv2d


class CGNL3d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank, conv_type = 3, nn.Conv3d
