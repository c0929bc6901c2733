"""Blocks after a module of any network: by a call, or by `plugins`."""

from .insert import insert_after

__all__ = ['insert_after']
