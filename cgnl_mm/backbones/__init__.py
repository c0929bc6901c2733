"""Backbones that take a block after any residual unit.

Nothing is imported here: each adapter needs its host, whose registry imports
it on first use.
"""
