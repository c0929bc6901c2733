"""The mathematics of CGNL. Everything here needs PyTorch alone."""

from .attention import cgnl_attention
from .exact import generalized_nonlocal
from .series import KERNELS, taylor_coefficients

__all__ = [
    'KERNELS',
    'cgnl_attention',
    'generalized_nonlocal',
    'taylor_coefficients',
]
