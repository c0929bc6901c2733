"""What the scripts that prepare data sets share.

Read lists with the line in every error, look at files in parallel, count what
is usable, write whole files. Paths that lists name are treated as hostile.
"""

import argparse
import codecs
import importlib.util
import io
import os
import shlex
import stat
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...errors import MissingDataError, SetupError, csv_field, printable

# broken EXIF data and the like, a line for each file
warnings.filterwarnings('ignore', module='PIL')

SHOWN = 10  # unusable files that are printed; all of them go to a file
UNUSABLE = 'unusable.txt'


def read_text(path: Path) -> str:
    """Read UTF-8, with or without a byte order mark.

    Raises:
        SetupError: If it is something else; the line is named.
    """
    try:
        return path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        raise SetupError(f'{path}, line {line}: not UTF-8') from None
    except OSError as error:
        raise SetupError(f'{path}: {error.strerror}') from None


def read_lines(
    path: Path, origin: str, strict: bool = False
) -> 'Iterator[tuple[str, str]]':
    """Yield the lines of a list that are not blank.

    Lines end where the hosts' readers end them: at a newline only, not at the
    other separators of Unicode.

    Args:
        path (Path): The list.
        origin (str): Where the user gets it, or which option names it.
        strict (bool): Whether a blank line or a byte order mark is an error,
            for files that a host reads which takes none. Defaults to False.

    Yields:
        tuple[str, str]: File and number of the line, for errors, and the line
        without white space at its ends.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If it is not UTF-8, or as above.
    """
    if not path.is_file():
        raise MissingDataError(f'{path} does not exist: {origin}')
    if strict and path.read_bytes().startswith(codecs.BOM_UTF8):
        raise SetupError(f'{path}, line 1: remove the byte order mark')
    for number, line in enumerate(io.StringIO(read_text(path), None), 1):
        if line.strip():
            yield f'{path}, line {number}', line.strip()
        elif strict:
            raise SetupError(f'{path}, line {number}: remove the blank line')


def relative_path(text: str, place: str) -> str:
    """Return ``text`` if it is a path below some folder.

    Args:
        text (str): What a list says.
        place (str): File and line, for the error.

    Raises:
        SetupError: If the path is absolute, leads upwards or is not
            printable.
    """
    parts = PurePosixPath(text).parts
    absolute = text.startswith(('/', '\\')) or PureWindowsPath(text).drive
    leaves = '..' in parts or '..' in text.split('\\')
    if not parts or absolute or leaves or not text.isprintable():
        raise SetupError(
            f'{place}: {text!r} is no path below the data folder: absolute '
            "paths, '..' and control characters are refused"
        )
    return text


def listing_fault(name: str, delimiter: str = '\t') -> str:
    """Say why no list can hold a path; '' if one can.

    A list holds one path a line, in UTF-8, and its reader strips the line.

    Args:
        name (str): The path.
        delimiter (str): What separates it from its label. Defaults to a tab.
    """
    if name.isprintable() and name == name.strip() and delimiter not in name:
        return ''
    return 'path that no list can hold'


def walk(root: Path, option: str) -> 'Iterator[tuple[str, list[str]]]':
    """Walk a folder, links too, each folder once, in sorted order.

    Args:
        root (Path): Any depth below it is searched.
        option (str): What the user calls it.

    Yields:
        tuple[str, list[str]]: A folder relative to ``root`` ('' for itself)
        and the names of its files.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    if not root.is_dir():
        raise MissingDataError(f'{option}: no folder {root}')
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        relative = os.path.relpath(folder, root)
        yield '' if relative == '.' else relative, sorted(names)


def fault(path: Path, decode: 'Callable[[Path], None] | None' = None) -> str:
    """Say why a file is unusable.

    Args:
        path (Path): The file.
        decode (Callable | None): Raises if the content is broken.
            Defaults to None: the content is not looked at.

    Returns:
        str: The reason, before a colon the kind of fault; '' if there is
        none.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return 'dead link' if path.is_symlink() else 'missing'
    except (OSError, ValueError) as error:
        return f'unreadable: {error}'
    if not stat.S_ISREG(status.st_mode):
        return 'no regular file'
    if status.st_size == 0:
        return 'zero bytes'
    if decode is not None:
        try:
            decode(path)
        except Exception as error:  # decoders raise what they like
            text = ' '.join(str(error).split())
            return f'unreadable: {type(error).__name__}: {text}'
    return ''


def decode_image(path: Path) -> None:
    """Decode a whole image; a truncated one raises."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def decode_clip(path: Path) -> None:
    """Decode the first frame of a video, and read on to its end.

    Of a file whose index comes first, a broken download lacks the end only.
    """
    import av

    with av.open(str(path)) as container:
        if next(container.decode(video=0), None) is None:
            raise ValueError('no frame')
        stream = container.streams.video[0]
        if stream.duration is None:
            return
        end = (stream.start_time or 0) + stream.duration
        second = round(1 / stream.time_base)
        container.seek(end - second, stream=stream)
        read = max(
            (
                packet.pts + (packet.duration or 0)
                for packet in container.demux(stream)
                if packet.pts is not None and not packet.is_corrupt
            ),
            default=0,
        )
        if read < end - second:
            missing = (end - read) / second
            raise ValueError(f'the last {missing:.1f} seconds are missing')


def find_faults(
    paths: Sequence[Path],
    title: str,
    args: argparse.Namespace,
    decode: Callable[[Path], None],
) -> 'list[str]':
    """Look at files in parallel, with a progress bar.

    Args:
        paths (Sequence[Path]): The files.
        title (str): Name of the progress bar.
        args (Namespace): With :func:`add_options`.
        decode (Callable): Used with ``--decode``; it releases the GIL.

    Returns:
        list[str]: What :func:`fault` says of each.

    Raises:
        SetupError: If clips are to be decoded and PyAV is missing.
    """
    from rich.progress import Progress

    used = decode if args.decode else None
    if used is decode_clip and importlib.util.find_spec('av') is None:
        raise SetupError(
            '--decode reads clips with PyAV: run `pip install av`'
        )
    faults = []
    with (
        Progress(disable=args.quiet) as progress,
        ThreadPoolExecutor(args.workers) as pool,
    ):
        task = progress.add_task(title, total=len(paths))
        # in parts: a million futures take gigabytes
        for start in range(0, len(paths), 1024):
            part = paths[start : start + 1024]
            for reason in pool.map(lambda path: fault(path, used), part):
                faults.append(reason)
                progress.advance(task)
    return faults


class Report:
    """What one split holds.

    Args:
        split (str): Its name.
        classes (Sequence[str]): Name of each label.
        unit (str): What the files are. Defaults to 'images'.
        counted (str): What is counted for each class, after a blank.
            Defaults to '': the files.
    """

    def __init__(
        self,
        split: str,
        classes: Sequence[str],
        unit: str = 'images',
        counted: str = '',
    ) -> None:
        self.split = split
        self.classes = classes
        self.unit = unit
        self.counted = counted
        self.per_class = Counter()
        self.reasons = Counter()
        self.unusable = []
        self.found = 0

    def add(self, name: str, label: 'str | None', reason: str = '') -> bool:
        """Count one file.

        Args:
            name (str): Path or id.
            label (str | None): Name of its class.
            reason (str): What :func:`fault` says. Defaults to ''.

        Returns:
            bool: Whether it is usable.
        """
        if not reason:
            self.found += 1
            self.per_class[label] += 1
            return True
        self.reasons[reason.partition(':')[0]] += 1
        fields = (self.split, name, str(label), reason)
        safe = (csv_field(printable(field)) for field in fields)
        self.unusable.append('\t'.join(safe) + '\n')
        return False

    def summary(self) -> str:
        """Return the counts in one line."""
        total = self.found + sum(self.reasons.values())
        counts = [self.per_class[name] for name in self.classes] or [0]
        return (
            f'{self.split}: {self.found} of {total} {self.unit} found, '
            f'{min(counts)} to {max(counts)}{self.counted} a class'
            + ''.join(f'; {n} {r}' for r, n in sorted(self.reasons.items()))
        )


def print_reports(
    reports: Sequence[Report],
    args: argparse.Namespace,
    official: 'dict[str, int]',
) -> None:
    """Print summaries, the first unusable files, and what differs.

    Args:
        reports (Sequence[Report]): One for each split.
        args (Namespace): With :func:`add_options`.
        official (dict[str, int]): For each split the number of files of the
            complete data set; splits that are left out are not compared.
    """
    for report in reports:
        print(report.summary())
        for line in report.unusable[:SHOWN]:
            print('  ' + line.replace('\t', '  '), end='')
        if len(report.unusable) > SHOWN:
            print(f'  and {len(report.unusable) - SHOWN} more')
        if args.per_class:
            for name in report.classes:
                print(f'{report.per_class[name]:8d}  {name}')
        wanted = official.get(report.split, report.found)
        if report.found != wanted:
            print(
                f'warning: {report.split} has {report.found:,} usable '
                f'{report.unit}, the complete one {wanted:,}'
            )


def unusable_list(reports: Iterable[Report]) -> str:
    """Return the lines ``split<tab>name<tab>class<tab>reason``.

    A ' precedes what a spreadsheet would take for a formula, such as an id
    that begins with a dash.
    """
    return ''.join(line for report in reports for line in report.unusable)


def write_all(
    out: Path, contents: 'dict[str, str]', args: argparse.Namespace
) -> bool:
    """Write each file whole, unless it is a dry run.

    An interrupted run leaves the old files, or some new and some old, each of
    them complete; files that would not change are not touched.

    Args:
        out (Path): Folder, made if need be.
        contents (dict[str, str]): Text for each file name.
        args (Namespace): With :func:`add_options`.

    Returns:
        bool: Whether it was no dry run.

    Raises:
        SetupError: If the folder cannot be written.
    """
    if args.dry_run:
        print('dry run: nothing written')
        return False
    data = {name: text.encode() for name, text in contents.items()}
    try:
        changed = [
            name
            for name in data
            if not (out / name).is_file()
            or (out / name).read_bytes() != data[name]
        ]
        if changed:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix='.') as partial:
                for name in changed:
                    Path(partial, name).write_bytes(data[name])
                for name in changed:
                    os.replace(Path(partial, name), out / name)
    except OSError as error:
        raise SetupError(f'cannot write {out}: {error.strerror}') from None
    same = sorted(set(data) - set(changed))
    if changed:
        print(f'wrote {", ".join(sorted(changed))} to {out}')
    if same:
        print(f'{", ".join(same)} in {out}: up to date')
    return True


def print_links(pairs: 'dict[Path, Path]') -> None:
    """Say how to put folders where the configs look.

    Args:
        pairs (dict[Path, Path]): For each folder that a config reads, the one
            that was given.
    """
    for read, given in pairs.items():
        if given.resolve() != read.resolve():
            print(
                f'the configs read {read}: mkdir -p {read.parent} && '
                f'ln -sfT {shlex.quote(str(given.resolve()))} {read}'
            )


def make_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser that prints a module's docstring as it is."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_options(
    parser: argparse.ArgumentParser, decode: bool, what: str
) -> None:
    """Add the options that all the scripts have.

    Args:
        parser (ArgumentParser): Of the script.
        decode (bool): Default of ``--decode``.
        what (str): What ``--decode`` reads.
    """
    parser.add_argument(
        '--decode',
        action=argparse.BooleanOptionalAction,
        default=decode,
        help=f'decode {what}, to find broken files (default: '
        f'--{"" if decode else "no-"}decode)',
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=os.cpu_count() or 1,
        help='files that are looked at together (default: %(default)s)',
    )
    parser.add_argument(
        '--per-class', action='store_true', help='print each count'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='report, write nothing'
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
