"""Mend a module of a host as soon as, and only if, somebody imports it."""

import sys
from collections import defaultdict
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Callable


class AfterImportFinder(MetaPathFinder):
    """Let the other finders find a module, and act once it has run."""

    def __init__(self):
        self.actions = defaultdict(list)

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.actions:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._follow(spec)
                return spec
        return None

    def _follow(self, spec) -> None:
        exec_module = spec.loader.exec_module

        def exec_and_act(module):
            exec_module(module)
            for action in self.actions[spec.name]:
                action(module)

        spec.loader.exec_module = exec_and_act


_finder = AfterImportFinder()


def after_import(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call ``action(module)`` after the import of ``name``.

    Args:
        name (str): Full name of a module. One that is imported already is
            acted on at once.
        action (Callable): Takes the module.
    """
    if name in sys.modules:
        action(sys.modules[name])
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.actions[name].append(action)
