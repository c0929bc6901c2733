"""Read the text files of data sets.

An error names the file and the line. A list may come from a stranger, so a
path in it must not leave the data folder.
"""

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError, csv_field, printable


def read_text(path: Path, strict: bool = False) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path (Path): The file.
        strict (bool): Whether to refuse the mark. Defaults to False.

    Raises:
        SetupError: If the file is in another encoding; the line is named.
    """
    if strict and path.read_bytes().startswith(codecs.BOM_UTF8):
        raise SetupError(f'{path}, line 1: remove the byte order mark')
    try:
        return path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        raise SetupError(f'{path}, line {line}: not UTF-8') from None


def read_lines(
    path: Path, origin: str, strict: bool = False
) -> Iterator[tuple[str, str]]:
    """Read the lines of a list that are not blank.

    A line ends at a newline alone, as for the readers of the hosts.
    ``str.splitlines`` knows eight more separators.

    Args:
        path (Path): The list.
        origin (str): Where the user gets the list, or which option names it.
        strict (bool): Whether to refuse a blank line and a byte order mark,
            because the host's reader takes neither. Defaults to False.

    Yields:
        tuple[str, str]: File and line number, for errors, and the line
        without white space at its ends.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If the file is not UTF-8, or not as strict as demanded.
    """
    if not path.is_file():
        raise MissingDataError(f'{path} does not exist: {origin}')
    text = read_text(path, strict)
    for number, line in enumerate(io.StringIO(text, None), 1):
        if line.strip():
            yield f'{path}, line {number}', line.strip()
        elif strict:
            raise SetupError(f'{path}, line {number}: remove the blank line')


def relative_path(text: str, place: str) -> PurePosixPath:
    """Return a path of a list unless it leaves the data folder.

    Args:
        text (str): The path.
        place (str): File and line number, for the error.

    Raises:
        SetupError: If the path is absolute, leads upwards or is not
            printable.
    """
    path = PurePosixPath(text)
    leaves = '..' in path.parts or text.startswith('/')
    if not path.parts or leaves or not text.isprintable():
        raise SetupError(
            f'{place}: {text!r} is not a path below the data folder: absolute '
            "paths, '..' and control characters are refused"
        )
    return path


def as_table(rows: Iterable[Iterable[str]]) -> str:
    """Return a line for each row, its fields escaped, separated by tabs."""
    return ''.join(
        '\t'.join(csv_field(printable(text)) for text in row) + '\n'
        for row in rows
    )
