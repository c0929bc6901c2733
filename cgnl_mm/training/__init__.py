"""Hooks for long runs, for the three hosts; a config opts into each."""

from .checkpoint import AtomicCheckpointHook
from .exact_resume import ExactResumeHook
from .numerics import NumericsHook
from .preemption import PreemptionHook
from .statistics import CGNLStatisticsHook
from .unreadable import UnreadableDataHook

__all__ = [
    'AtomicCheckpointHook',
    'CGNLStatisticsHook',
    'ExactResumeHook',
    'NumericsHook',
    'PreemptionHook',
    'UnreadableDataHook',
]
