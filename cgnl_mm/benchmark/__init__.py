"""Measure what the block costs: time, memory, traffic."""
