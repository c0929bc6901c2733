"""Measure what the block costs: time, memory, traffic."""

from .run import EXPERIMENTS, run_benchmark
from .settings import Settings

__all__ = ['EXPERIMENTS', 'Settings', 'run_benchmark']
