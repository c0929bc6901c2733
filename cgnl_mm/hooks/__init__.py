"""Hooks of the training loop, for the three hosts."""

from .cgnl_statistics import CGNLStatisticsHook
from .unreadable_data import UnreadableDataHook

__all__ = ['CGNLStatisticsHook', 'UnreadableDataHook']
