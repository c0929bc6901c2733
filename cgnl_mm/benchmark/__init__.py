"""Measure what the block costs: time, memory, traffic."""

from .forms import CASES, FORMS, Settings
from .run import run_benchmark

__all__ = ['CASES', 'FORMS', 'Settings', 'run_benchmark']
