"""The Compact Generalized Non-local block.

Paper: Yue et al., "Compact Generalized Non-local Network", NeurIPS 2018,
arXiv 1810.13125. Reference code: github.com/KaiyuYue/cgnl-network.pytorch.
"""

import math
from typing import Optional, Union

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..ops import KERNELS, cgnl_attention, taylor_coefficients
from ..ops.torch_versions import TORCH, is_compiling
from .fused import obstacle, run_folded
from .norm import build_norm
from .paths import BACKENDS, choose
from .precision import in_float32

MODES = (*KERNELS, 'learnable', 'none')
# torch 2.6 compiles no hook of a tensor inside of the graph, 2.11 does
_NO_HOOKS_IN_GRAPHS = TORCH < (2, 11)


class _CGNLNd(BaseModule):
    r"""Compact Generalized Non-local block (paper, Eq. 12 and 13).

    ::

        x (B, C, *S) -+-> theta (1x1, C -> C') ---------------------+
                      +-> phi   (1x1, C -> C') -+                   |
                      +-> g     (1x1, C -> C') -+-> <phi^p, g> -> sum_p
                      |       per sample, group and power p         |
                      |            W_z (1x1, groups, C' -> C) <-----+
                      |                        norm
                      +------------------------> + --> out (B, C, *S)

    No affinity is formed: cost is linear in C' * S. The last norm starts at
    zero, so a fresh block is the identity.

    With the default norm (GroupNorm of the same groups, as in the author's
    code) and the dot product, the output depends on the attention of a group
    through little more than its sign; see ``cgnl_mm/ops/README.md`` before
    you tune it.

    Args:
        in_channels (int): Channels C of the input.
        groups (int): Channel groups G of the attention, of W_z and of the
            default norm. Must divide C'. Defaults to 8.
        reduction (int): C / C'. Defaults to 2.
        mode (str): Kernel: 'dot_product', 'embedded_gaussian',
            'gaussian_rbf' (all by their Taylor series) or 'learnable'
            (``order + 1`` trained coefficients, starting from the dot
            product), or 'none' for the paper's residual control, which is
            the block without attention: norm(W_z theta) + x.
            Defaults to 'dot_product'.
        order (int): Highest power P of the series, at least 1; the dot
            product is exact at any. Defaults to 3.
        gamma (float): Inverse squared width of the RBF kernel.
            Defaults to 1e-4.
        use_scale (bool): Whether to divide the inner products by
            sqrt(C' / G * S). The author found False slightly better.
            Defaults to False.
        norm_cfg (dict | bool, optional): Norm after W_z. None: GroupNorm
            with ``groups`` groups (the author's code);
            ``dict(type='GN', num_groups=1)``; ``dict(type='BN')``,
            ``dict(type='SyncBN')`` (the paper's text); any registered norm
            over channels that has a weight; False: no norm, W_z starts at
            zero instead. Defaults to None.
        zero_init (bool): Whether to start as the identity. Defaults to True.
        init_std (float): Standard deviation of the normal initialisation of
            the convolutions. Defaults to 0.01.
        backend (str): 'reference' (the operator, then the layers), 'folded'
            (all in few passes; ``cgnl_mm/ops/fused``), 'gram' (the same,
            the dot product's sums from the Gram matrix of x;
            ``cgnl_mm/ops/fused/moments.py``) or 'auto' (what the measurements
            speak for). The results are the same to rounding; derivatives of
            derivatives (a gradient penalty) need 'reference'.
            Defaults to 'auto'.
        recompute (bool): Whether the folded paths compute theta, phi and g
            again in the backward pass instead of keeping them: less memory,
            more time. Nothing where the block takes its reference path, as
            under ``torch.compile``. Defaults to False.
        init_cfg (dict | list[dict], optional): OpenMMLab initialisation that
            ``init_weights`` applies over the block's own. Defaults to None.

    Raises:
        ValueError: If a number is out of range, reduction does not divide C
            or groups C', the mode is unknown or the norm does not fit.
        TypeError: If ``norm_cfg`` is neither a dict, None nor False.
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
        zero_init: bool = True,
        init_std: float = 0.01,
        backend: str = 'auto',
        recompute: bool = False,
        init_cfg: Optional[Union[dict, list]] = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value in (
            ('in_channels', in_channels),
            ('groups', groups),
            ('reduction', reduction),
            ('order', order),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f'{name} must be an integer, got {value!r}')
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if mode not in MODES:
            raise ValueError(
                f'mode must be one of {", ".join(MODES)}, got {mode!r}'
            )
        if backend not in BACKENDS:
            raise ValueError(
                f'backend must be one of {", ".join(BACKENDS)}, got '
                f'{backend!r}'
            )
        if recompute and backend == 'reference':
            raise ValueError(
                "recompute=True is of the folded path: backend='reference' "
                "keeps its maps; use backend='folded' or 'auto'"
            )
        if mode == 'none' and use_scale:
            raise ValueError(
                "mode='none' has no inner products that use_scale=True "
                'could divide: leave use_scale out'
            )
        if in_channels % reduction:
            raise ValueError(
                f'reduction={reduction} does not divide '
                f'in_channels={in_channels}'
            )
        inter = in_channels // reduction
        if inter % groups:
            allowed = [d for d in range(1, inter + 1) if inter % d == 0]
            raise ValueError(
                f'groups={groups} does not divide in_channels / reduction = '
                f'{inter}; allowed are {", ".join(map(str, allowed))}'
            )
        if not init_std >= 0:
            raise ValueError(f'init_std must not be negative, got {init_std}')
        self.in_channels = in_channels
        self.inter_channels = inter
        self.groups = groups
        self.reduction = reduction
        self.mode = mode
        self.order = order
        self.gamma = gamma
        self.use_scale = use_scale
        self.norm_cfg = norm_cfg
        self.zero_init = zero_init
        self.init_std = init_std
        self.backend = backend
        self.recompute = recompute

        conv = self.conv_type
        self.theta = conv(in_channels, inter, 1, bias=False)
        if mode != 'none':
            self.phi = conv(in_channels, inter, 1, bias=False)
            self.g = conv(in_channels, inter, 1, bias=False)
        self.conv_out = conv(inter, in_channels, 1, groups=groups, bias=False)
        self.norm = build_norm(norm_cfg, in_channels, groups, self.rank)

        if mode == 'learnable':
            self.coefficients = nn.Parameter(torch.empty(order + 1))
        elif mode == 'none':
            self.coefficients = ()
        else:
            self.coefficients = taylor_coefficients(mode, order, gamma)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the author's initial state: N(0, init_std), norm at zero."""
        for name in ('theta', 'phi', 'g', 'conv_out'):
            if hasattr(self, name):
                weight = getattr(self, name).weight
                nn.init.normal_(weight, std=self.init_std)
        if isinstance(self.norm, nn.Identity):
            if self.zero_init:
                nn.init.zeros_(self.conv_out.weight)
        else:
            nn.init.constant_(self.norm.weight, 0.0 if self.zero_init else 1.0)
            if getattr(self.norm, 'bias', None) is not None:
                nn.init.zeros_(self.norm.bias)
        if isinstance(self.coefficients, nn.Parameter):
            start = taylor_coefficients('dot_product', self.order)
            with torch.no_grad():
                self.coefficients.copy_(torch.tensor(start))

    def init_weights(self) -> None:
        """Return to the initial state, whatever a backbone's init did."""
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each channel group, over all positions.

        Args:
            x (Tensor): (B, C, W), (B, C, H, W) or (B, C, T, H, W).

        Returns:
            Tensor: Same shape and dtype.

        Raises:
            ValueError: If x has another rank or number of channels.
        """
        if x.dim() != self.rank + 2 or x.shape[1] != self.in_channels:
            axes = 'THW'[3 - self.rank :]
            raise ValueError(
                f'{type(self).__name__} expects (B, {self.in_channels}, '
                f'{", ".join(axes)}), got shape {tuple(x.shape)}'
            )
        inner = self.inter_channels // self.groups
        path = choose(
            self.backend,
            lambda path: obstacle(self, x, path),  # no partial: torch 2.1
            x,
            inner,
            self.recompute,
        )
        scale = 1.0
        if self.use_scale:
            # prod, not numel: traced or exported, it stays a function of size
            scale = (inner * math.prod(x.shape[2:])) ** -0.5
        if path != 'reference':
            return run_folded(self, x, scale, path)
        theta = self.theta(x)
        if theta.dtype != torch.float16:
            y = self._attend(x, theta, scale, theta.dtype)
            return x + self._normalise(self.conv_out(y)).to(x.dtype)

        # A group's sum leaves float16's range; the norm brings it back.
        y = self._attend(x, theta, scale, torch.float32)
        u = in_float32(self.norm, in_float32(self.conv_out, y))
        return x + u.to(x.dtype)

    def _normalise(self, u: Tensor) -> Tensor:
        u = self.norm(u)
        if (
            isinstance(self.norm, (_InstanceNorm, _BatchNorm))
            and u.requires_grad
            and len(u) == 1
            and not (_NO_HOOKS_IN_GRAPHS and is_compiling())
        ):
            # of one sample, PyTorch 2.14 takes a channels-last gradient for
            # a contiguous one (batch norm where there is one row)
            u.register_hook(Tensor.contiguous)
        return u

    def _attend(self, x, theta, scale, dtype) -> Tensor:
        """The operator's output (B, C', *S), before W_z."""
        if self.mode == 'none':
            return theta.to(dtype)
        return cgnl_attention(
            theta,
            self.phi(x),
            self.g(x),
            self.coefficients,
            self.groups,
            scale,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The settings that the children do not show."""
        text = f'mode={self.mode!r}, groups={self.groups}'
        if self.mode not in ('dot_product', 'none'):
            text += f', order={self.order}'
        if self.mode == 'gaussian_rbf':
            text += f', gamma={self.gamma}'
        if self.mode != 'none':
            text += f', use_scale={self.use_scale}'
        return text


@MODELS.register_module()
class CGNL1d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank = 1
    conv_type = nn.Conv1d


@MODELS.register_module()
class CGNL2d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank = 2
    conv_type = nn.Conv2d


@MODELS.register_module()
class CGNL3d(_CGNLNd):
    __doc__ = _CGNLNd.__doc__
    rank = 3
    conv_type = nn.Conv3d
