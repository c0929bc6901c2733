"""Read and write the text files of data sets.

An error names the file and the line. A list may come from a stranger, so a
path in it must not leave the data folder.
"""

import codecs
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError, csv_field, printable

LABEL = re.compile('[0-9]{1,9}')


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


def read_labels(
    path: Path, origin: str, labels: re.Pattern = LABEL
) -> Iterator[tuple[str, str, str]]:
    """Read the lines ``PATH LABEL`` of a list; the path may have blanks.

    Args:
        path (Path): The list.
        origin (str): Where the user gets the list, or which option names it.
        labels (Pattern): What a label looks like. Defaults to a number.

    Yields:
        tuple[str, str, str]: File and line number, the path, the label.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line has no label or its path leaves the folder.
    """
    for place, line in read_lines(path, origin):
        name, _, label = line.rpartition(' ')
        if not labels.fullmatch(label):
            raise SetupError(f'{place}: no label at the end: {line!r}')
        yield place, relative_path(name.strip(), place), label


def relative_path(text: str, place: str) -> str:
    """Return a path of a list unless it leaves the data folder.

    Args:
        text (str): The path.
        place (str): File and line number, for the error.

    Raises:
        SetupError: If the path is absolute, leads upwards or is not
            printable.
    """
    parts = PurePosixPath(text).parts
    leaves = '..' in parts or text.startswith('/')
    if not parts or leaves or not text.isprintable():
        raise SetupError(
            f'{place}: {text!r} is not a path below the data folder: absolute '
            "paths, '..' and control characters are refused"
        )
    return text


def listing_fault(path: str, separator: str = '\t') -> str:
    """Say why no list can hold a path; return '' if one can.

    A list holds one path a line in UTF-8, and its reader strips the line.

    Args:
        path (str): The path.
        separator (str): What stands before the label. Defaults to a tab.
    """
    if path.isprintable() and path == path.strip() and separator not in path:
        return ''
    return 'path that no list can hold'


def add_once(table: dict, key, value, place: str) -> None:
    """Add an entry to a table; refuse a second value for the same key.

    Args:
        table (dict): The table.
        key: What the value belongs to.
        value: The value.
        place (str): File and line number, for the error.

    Raises:
        SetupError: If the table has another value.
    """
    known = table.setdefault(key, value)
    if known != value:
        raise SetupError(
            f'{place}: {value!r} for {key!r}, further up {known!r}'
        )


def refuse_again(seen: set[str], key: str, place: str) -> None:
    """Note a key; raise SetupError if it was noted before."""
    if key in seen:
        raise SetupError(f'{place}: {key} again')
    seen.add(key)


def as_lines(rows: Iterable[Iterable], separator: str = ' ') -> str:
    """Return a line for each row of fields."""
    return ''.join(separator.join(map(str, row)) + '\n' for row in rows)


def as_table(rows: Iterable[Iterable[str]]) -> str:
    """Return a line for each row, its fields escaped, separated by tabs."""
    return ''.join(
        '\t'.join(csv_field(printable(text)) for text in row) + '\n'
        for row in rows
    )


def write_lists(out: Path, contents: dict[str, str], dry_run: bool) -> bool:
    """Write each file whole, unless it is a dry run.

    An interrupted run leaves complete files, old ones and new ones. A file
    that would not change is not touched.

    Args:
        out (Path): Folder of the files, made where it does not exist.
        contents (dict[str, str]): Text of each file, by its name.
        dry_run (bool): Whether to write nothing.

    Returns:
        bool: Whether the files are there now.

    Raises:
        SetupError: If the folder cannot be written.
    """
    if dry_run:
        print('dry run: nothing written')
        return False
    same = sorted(
        name
        for name, text in contents.items()
        if (out / name).is_file()
        and (out / name).read_bytes() == text.encode()
    )
    changed = sorted(contents.keys() - same)
    if changed:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix='.') as partial:
                for name in changed:
                    Path(partial, name).write_bytes(contents[name].encode())
                for name in changed:
                    os.replace(Path(partial, name), out / name)
        except OSError as error:
            raise SetupError(f'cannot write {out}: {error.strerror}') from None
        print(f'wrote {", ".join(changed)} to {out}')
    if same:
        print(f'{", ".join(same)} in {out}: up to date')
    return True


def print_links(pairs: dict[Path, Path]) -> None:
    """Say how to put folders where the configs look.

    Args:
        pairs (dict[Path, Path]): The user's folder for each one that the
            configs read.
    """
    for read, given in pairs.items():
        if given.resolve() != read.resolve():
            print(
                f'the configs read {read}: mkdir -p {read.parent} && '
                f'ln -sfT {shlex.quote(str(given.resolve()))} {read}'
            )
