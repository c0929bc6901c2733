"""Let a file of ours be imported under the name of a missing module."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Optional

STAND_INS = Path(__file__).parent / 'stand_ins'


class StandInFinder(MetaPathFinder):
    """Find one module, and only where no other finder does.

    Args:
        name (str): Full name of the missing module.
        file (Path): What to load instead. An ``__init__.py`` makes it a
            package, whose modules are those beside the file.
    """

    def __init__(self, name: str, file: Path):
        self.name = name
        self.file = file

    def find_spec(
        self, fullname, path=None, target=None
    ) -> Optional[ModuleSpec]:
        if fullname != self.name:
            return None
        is_package = self.file.name == '__init__.py'
        return spec_from_file_location(
            fullname,
            self.file,
            submodule_search_locations=(
                [str(self.file.parent)] if is_package else None
            ),
        )


def provide(name: str, file: Path) -> None:
    """Make ``name`` importable from ``file``.

    The finder goes last, so that a real module of that name always wins.

    Args:
        name (str): Full name of the missing module.
        file (Path): What to load instead.
    """
    sys.meta_path.append(StandInFinder(name, file))
