"""Act on the import of a host's module, or stand in for a missing one."""

import sys
from collections import defaultdict
from importlib.abc import MetaPathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Callable

STAND_INS = Path(__file__).parent / 'stand_ins'


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


class StandInFinder(MetaPathFinder):
    """Find one module in a file of ours."""

    def __init__(self, name: str, file: Path):
        self.name, self.file = name, file

    def find_spec(self, fullname, path=None, target=None):
        if fullname == self.name:
            return spec_from_file_location(fullname, self.file)
        return None


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


def replace(old: Callable, new: Callable) -> None:
    """Put a function in the place of a host's, in each module that has it.

    Args:
        old (Callable): The function of the host.
        new (Callable): What takes its place, under its name.
    """
    package, name = old.__module__.partition('.')[0], old.__name__
    for path, module in list(sys.modules.items()):
        inside = path.partition('.')[0] == package
        if inside and vars(module).get(name) is old:
            setattr(module, name, new)


def provide(name: str, file: str) -> None:
    """Make a missing module importable from a file of ``stand_ins``.

    The finder goes last, so that a real module of that name always wins.

    Args:
        name (str): Full name of the missing module.
        file (str): What to load instead. An ``__init__.py`` makes it a
            package, whose modules are those beside the file.
    """
    sys.meta_path.append(StandInFinder(name, STAND_INS / file))
