"""Hooks of the training loop, for the three hosts."""

from .exact_resume import ExactResumeHook
from .numerics import NumericsHook
from .preemption import PreemptionHook
from .statistics import CGNLStatisticsHook
from .unreadable import UnreadableDataHook

__all__ = [
    'CGNLStatisticsHook',
    'ExactResumeHook',
    'NumericsHook',
    'PreemptionHook',
    'UnreadableDataHook',
]
