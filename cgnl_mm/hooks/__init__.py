"""Hooks of the training loop, for the three hosts."""

from .cgnl_statistics import CGNLStatisticsHook
from .exact_resume import ExactResumeHook
from .numerics import NumericsHook
from .preemption import PreemptionHook
from .unreadable_data import UnreadableDataHook

__all__ = [
    'CGNLStatisticsHook',
    'ExactResumeHook',
    'NumericsHook',
    'PreemptionHook',
    'UnreadableDataHook',
]
