"""Find the files of a data set, look at them in parallel, count them."""

import argparse
import importlib.util
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from rich.progress import track

from ...errors import MissingDataError, SetupError
from ..decode import count_kinds, decode_image, inspect_file
from .lists import as_lines, as_table

__all__ = ['decode_clip', 'decode_image', 'find_faults', 'find_files']

SHOWN = 10  # unusable files that are printed; a file lists all of them
UNUSABLE = 'unusable.txt'


def make_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser that prints its description as it is."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_path(
    parser: argparse.ArgumentParser, name: str, default: Path, text: str
) -> None:
    """Add an option that takes a path and has a default value."""
    text += ' (default: %(default)s)'
    parser.add_argument(name, type=Path, default=default, help=text)


def add_options(
    parser: argparse.ArgumentParser, decode: bool, what: str
) -> None:
    """Add the options that all scripts share.

    Args:
        parser (ArgumentParser): The parser of a script.
        decode (bool): Default value of ``--decode``.
        what (str): What ``--decode`` reads.
    """
    parser.add_argument(
        '--decode',
        action=argparse.BooleanOptionalAction,
        default=decode,
        help=f'decode {what}, to find broken files (default: '
        f'--{"" if decode else "no-"}decode)',
    )
    add_workers(parser, 'files that are looked at together')
    flag = partial(parser.add_argument, action='store_true')
    flag('--per-class', help='print each count')
    flag('--dry-run', help='report, write nothing')
    flag('--quiet', help='no progress bar')


def add_workers(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--workers`` to a parser."""
    parser.add_argument(
        '--workers',
        type=positive,
        default=os.cpu_count() or 1,
        help=f'{what} (default: %(default)s)',
    )


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def find_files(
    root: Path, suffixes: tuple[str, ...], option: str
) -> list[str]:
    """Find files at any depth below a folder; links are followed.

    Args:
        root (Path): The folder.
        suffixes (tuple[str, ...]): How the names end, in small letters.
        option (str): Option that names the folder, for the error.

    Returns:
        list[str]: Paths relative to the folder, sorted; the files of a
        folder come before those of the folders in it.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    if not root.is_dir():
        raise MissingDataError(f'{option}: no folder {root}')
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        place = Path(folder).relative_to(root)
        found += [
            (place / name).as_posix()
            for name in sorted(names)
            if name.lower().endswith(suffixes)
        ]
    return found


def find_faults(
    paths: Sequence[Path],
    title: str,
    args: argparse.Namespace,
    decode: Callable[[Path], None],
) -> list[str]:
    """Look at files in parallel, with a progress bar.

    Args:
        paths (Sequence[Path]): The files.
        title (str): Title of the progress bar.
        args (Namespace): Values of :func:`add_options`.
        decode (Callable): Reads a file with ``--decode``; releases the GIL.

    Returns:
        list[str]: Why each file is unusable, before a colon the kind of the
        fault; '' for a usable one.

    Raises:
        SetupError: If clips are to be decoded and PyAV is missing.
    """
    used = decode if args.decode else None
    if used is decode_clip and importlib.util.find_spec('av') is None:
        raise SetupError(
            '--decode reads clips with PyAV: run `pip install av`'
        )
    look = partial(_fault, decode=used)
    with ThreadPoolExecutor(args.workers) as pool, warnings.catch_warnings():
        # Pillow warns for each file with broken EXIF data.
        warnings.filterwarnings('ignore', module='PIL')
        # A million futures at once would take gigabytes.
        parts = (
            pool.map(look, paths[start : start + 1024])
            for start in range(0, len(paths), 1024)
        )
        faults = chain.from_iterable(parts)
        return list(track(faults, title, len(paths), disable=args.quiet))


def _fault(path: Path, decode: 'Callable[[Path], None] | None') -> str:
    reason = inspect_file(path, decode) or ''
    return f'unreadable: {reason}' if ': ' in reason else reason


def decode_clip(path: Path) -> None:
    """Decode the first frame of a video, and read its end.

    A broken download of a file whose index comes first lacks only the end.

    Raises:
        ValueError: If the video has no frame or lacks its end.
    """
    import av  # optional

    with av.open(str(path)) as container:
        if next(container.decode(video=0), None) is None:
            raise ValueError('no frame')
        stream = container.streams.video[0]
        if stream.duration is None:
            return
        end = (stream.start_time or 0) + stream.duration
        second = round(1 / stream.time_base)
        container.seek(end - second, stream=stream)
        ends = [
            packet.pts + (packet.duration or 0)
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_corrupt
        ]
        missing = end - max(ends, default=0)
        if missing > second:
            raise ValueError(
                f'the last {missing / second:.1f} seconds are missing'
            )


@dataclass
class Report:
    """The files of one split, usable and unusable.

    Attributes:
        split (str): Name of the split.
        classes (Sequence[str]): Name of each label.
        rows (list[tuple]): Name of each file for people, its class, why it
            is unusable (or ''), its path in a list.
        unit (str): What the files are. Defaults to 'images'.
        counted (str): What is counted for each class, after a blank.
            Defaults to '', the files.
    """

    split: str
    classes: Sequence[str]
    rows: list[tuple[str, 'str | None', str, str]]
    unit: str = 'images'
    counted: str = ''

    def __post_init__(self) -> None:
        self.usable = [(x, label) for _, label, why, x in self.rows if not why]
        self.unusable = [
            (self.split, name, str(label), why)
            for name, label, why, _ in self.rows
            if why
        ]
        self.per_class = Counter(label for _, label in self.usable)

    def as_list(self, separator: str = ' ') -> str:
        """Return the lines ``PATH LABEL`` of the usable files."""
        labels = {name: label for label, name in enumerate(self.classes)}
        rows = [(path, labels[name]) for path, name in self.usable]
        return as_lines(rows, separator)

    def summary(self) -> str:
        """Return the counts in one line."""
        counts = [self.per_class[name] for name in self.classes] or [0]
        kinds = sorted(count_kinds(row[-1] for row in self.unusable).items())
        return (
            f'{self.split}: {len(self.usable)} of {len(self.rows)} '
            f'{self.unit} found, {min(counts)} to {max(counts)}'
            f'{self.counted} a class'
            + ''.join(f'; {number} {kind}' for kind, number in kinds)
        )


def print_reports(
    reports: Sequence[Report], official: Iterable[int], per_class: bool
) -> None:
    """Print summaries, the first unusable files, and what differs.

    Args:
        reports (Sequence[Report]): One report for each split.
        official (Iterable[int]): Number of files in each split of the
            complete data set.
        per_class (bool): Whether to print the count of each class.
    """
    for report, wanted in zip(reports, official):
        print(report.summary())
        shown = as_table(report.unusable[:SHOWN]).replace('\t', '  ')
        print(''.join(f'  {line}\n' for line in shown.splitlines()), end='')
        if len(report.unusable) > SHOWN:
            print(f'  and {len(report.unusable) - SHOWN} more')
        if per_class:
            for name in report.classes:
                print(f'{report.per_class[name]:8d}  {name}')
        if len(report.usable) != wanted:
            print(
                f'warning: {report.split} has {len(report.usable):,} usable '
                f'{report.unit}, the complete one {wanted:,}'
            )


def print_classes(
    name: str, wanted: int, found: Sequence[str], more: str = '', why: str = ''
) -> None:
    """Print the number of classes, and warn if the data set has another.

    Args:
        name (str): Name of the data set.
        wanted (int): Number of its classes.
        found (Sequence[str]): The classes that were found.
        more (str): What follows the number. Defaults to ''.
        why (str): What follows the warning. Defaults to ''.
    """
    print(f'{len(found)} classes{more}')
    if len(found) != wanted:
        print(f'warning: {name} has {wanted} classes{why}')


def unusable_list(reports: Iterable[Report]) -> str:
    """Return the lines ``split<tab>name<tab>class<tab>reason``."""
    return as_table(row for report in reports for row in report.unusable)


def make_lists(
    reports: Sequence[Report],
    root: Path,
    hint: str = '',
    form: str = '{}.txt',
    separator: str = ' ',
) -> dict[str, str]:
    """Make the lists of a data set.

    Args:
        reports (Sequence[Report]): One report for each split.
        root (Path): Folder of the files, for the error.
        hint (str): What follows the error. Defaults to ''.
        form (str): Name of a list; braces stand for the words of the name of
            its split. Defaults to '{}.txt'.
        separator (str): What stands before a label. Defaults to a blank.

    Returns:
        dict[str, str]: Text of each file, by its name.

    Raises:
        SetupError: If a split has no usable file.
    """
    for report in reports:
        if not report.usable:
            raise SetupError(
                f'{report.split}: none of the {report.unit} below {root} is '
                f'usable{hint}'
            )
    contents = {
        form.format(*report.split.split()): report.as_list(separator)
        for report in reports
    }
    names = ((name,) for name in reports[0].classes)
    contents['classes.txt'] = as_lines(names)
    contents[UNUSABLE] = unusable_list(reports)
    return contents
