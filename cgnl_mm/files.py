"""Write files whole: an interrupted run leaves the old ones."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Give an empty folder, whose files then replace those of ``folder``.

    An error in the block leaves ``folder`` as it was.

    Args:
        folder (Path): The folder, made where it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.') as partial:
        yield Path(partial)
        for path in Path(partial).iterdir():
            os.replace(path, folder / path.name)
