"""The mathematics of CGNL in plain PyTorch, free of OpenMMLab."""

from .compact import cgnl_attention
from .naive import generalized_nonlocal
from .taylor import KERNELS, taylor_coefficients

__all__ = [
    'KERNELS',
    'cgnl_attention',
    'generalized_nonlocal',
    'taylor_coefficients',
]
