"""Files and folders that a tool is to write."""

import os
from pathlib import Path

from ..errors import SetupError


def require_writable(path: Path, option: str, folder: bool = True) -> None:
    """Raise SetupError unless a tool can write there later; make nothing.

    Args:
        path (Path): What the tool is going to write.
        option (str): The user's name for the path.
        folder (bool): Whether it is a folder. Defaults to True.
    """
    if os.path.lexists(path) and path.is_dir() != folder:
        kind = 'a folder' if folder else 'a file'
        raise SetupError(f'{option}: {str(path)!r} is not {kind}')
    there = path
    while not there.exists():
        there = there.parent
    if there != path and not there.is_dir():
        raise SetupError(f'{option}: {str(there)!r} is not a folder')
    if not os.access(there, os.W_OK):
        raise SetupError(f'{option}: {str(there)!r} cannot be written')
