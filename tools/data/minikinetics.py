"""Write the annotation files of Mini-Kinetics-200.

From the two id lists of github.com/s9xie/Mini-Kinetics-200, the csv files of
Kinetics-400 and a folder of its clips (any depth, mmaction2's layout too; the
clips stay where they are):

    python tools/data/minikinetics.py --ids Mini-Kinetics-200 \\
        --csv train.csv validate.csv --videos data/kinetics400 \\
        --out data/minikinetics

Written: train.txt and val.txt (path<tab>label), classes.txt (name of each
label, sorted), unusable.txt (split, id, class, reason). Many clips are gone
today: what is missing is counted and listed, and is no error.
"""

import argparse
import csv
import io
import os
import re
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _common import run  # noqa: E402

from cgnl_mm.errors import MissingDataError, SetupError  # noqa: E402

LISTS = dict(train='train_ytid_list.txt', val='val_ytid_list.txt')
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
ID_LENGTH = 11
ID = re.compile(r'[\w-]{11}', re.ASCII)
CLIP = re.compile(r'(?P<id>[\w-]{11})(?:_(\d{6})_(\d{6}))?', re.ASCII)
SUFFIXES = {'.mp4', '.mkv', '.webm', '.avi'}
NUM_CLASSES = 200
# where the configs look
VIDEOS, OUT = Path('data/kinetics400'), Path('data/minikinetics')


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


def read_ids(path: Path) -> 'tuple[list[str], int]':
    """Read one id list.

    Args:
        path (Path): A YouTube id a line.

    Returns:
        tuple[list[str], int]: The ids in order, each once, and the number of
        repetitions.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is no id; it is named.
    """
    if not path.is_file():
        raise MissingDataError(
            f'{path} does not exist: --ids takes the folder with '
            f'{" and ".join(LISTS.values())}'
        )
    ids = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        if not ID.fullmatch(line.strip()):
            raise SetupError(
                f'{path}, line {number}: {line!r} is no YouTube id of 11 '
                'characters'
            )
        ids.append(line.strip())
    unique = list(dict.fromkeys(ids))
    return unique, len(ids) - len(unique)


def read_csv(path: Path) -> 'dict[str, tuple[str, int, int]]':
    """Read one csv file of Kinetics-400.

    Args:
        path (Path): With the columns label, youtube_id, time_start, time_end.

    Returns:
        dict: For each id its label, start and end in seconds.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a column is missing, or a line is malformed or
            contradicts another one; it is named.
    """
    if not path.is_file():
        raise MissingDataError(f'--csv: {path} does not exist')
    rows, line = {}, 0
    file = io.StringIO(read_text(path), newline='')
    reader = csv.DictReader(file, strict=True)
    try:
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise SetupError(
                f'{path} has no column {", ".join(sorted(missing))}: is it a '
                'csv file of Kinetics-400 with labels?'
            )
        for row in reader:
            line = reader.line_num
            clip, content = parse_row(row, f'{path}, line {line}')
            if rows.setdefault(clip, content) != content:
                raise SetupError(
                    f'{path}, line {line}: {clip} is {content} here and '
                    f'{rows[clip]} further up'
                )
    except csv.Error as error:
        # where the row starts: an open quote swallows the lines after it
        raise SetupError(
            f'{path}, line {line + 1}: {error}; is a quote left open?'
        ) from None
    return rows


def parse_row(
    row: 'dict[str, str]', place: str
) -> 'tuple[str, tuple[str, int, int]]':
    """Check one row of a csv file.

    Args:
        row (dict[str, str]): What csv.DictReader gives.
        place (str): File and line, for the error.

    Returns:
        tuple[str, tuple[str, int, int]]: The id, and its label, start and end
        in seconds.

    Raises:
        SetupError: If the row is malformed.
    """
    label, clip, start, end = (
        (row[column] or '').strip() for column in COLUMNS
    )
    named = label and label.isprintable() and ID.fullmatch(clip)
    if not named or None in row:
        raise SetupError(f'{place}: malformed: {list(row.values())}')
    try:
        times = round(float(start)), round(float(end))
    except (ValueError, OverflowError):
        times = (0, 0)
    if not 0 <= times[0] < times[1]:
        raise SetupError(
            f'{place}: times must be seconds, got {start!r}, {end!r} as '
            'start and end'
        )
    return clip, (label, *times)


def find_clips(root: Path) -> 'dict[str, list[Path]]':
    """Find the clips below ``root``.

    Args:
        root (Path): Any depth below it is searched.

    Returns:
        dict[str, list[Path]]: For each id its files, relative to ``root``;
        those with seconds in their name before those without, then sorted.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    if not root.is_dir():
        raise MissingDataError(f'--videos: no folder {root}')
    clips, seen = defaultdict(list), set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        for name in names:
            stem, suffix = os.path.splitext(name)
            match = CLIP.fullmatch(stem)
            if match and suffix.lower() in SUFFIXES:
                path = Path(folder, name).relative_to(root)
                clips[match['id']].append(path)
    for paths in clips.values():
        paths.sort(key=lambda path: (len(path.stem) == ID_LENGTH, path))
    return clips


def choose(
    root: Path, paths: 'list[Path]', start: int, end: int
) -> 'tuple[Path | None, str]':
    """Choose the file that holds one clip.

    Args:
        root (Path): Folder that the paths are relative to.
        paths (list[Path]): The files of this id.
        start (int): First second of the clip in its video.
        end (int): Last second.

    Returns:
        tuple[Path | None, str]: The file, or None and the reason.
    """
    if not paths:
        return None, 'missing'
    reason = 'other seconds of the video'
    for path in paths:
        times = CLIP.fullmatch(path.stem).groups()[1:]
        if times not in ((f'{start:06d}', f'{end:06d}'), (None, None)):
            continue
        name = path.as_posix()
        # a list holds one path a line, in UTF-8; its reader strips the line
        if not name.isprintable() or name != name.strip():
            reason = 'path that no list can hold'
        elif not (root / path).is_file():
            reason = 'dead link'
        elif (root / path).stat().st_size == 0:
            reason = 'zero bytes'
        else:
            return path, ''
    return None, reason


def write_all(out: Path, contents: 'dict[str, str]') -> None:
    """Write each file whole: an interrupted run leaves the old one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out) as partial:
            for name, text in contents.items():
                Path(partial, name).write_text(text, encoding='utf-8')
            for name in contents:
                os.replace(Path(partial, name), out / name)
    except OSError as error:
        raise SetupError(f'--out {out}: {error.strerror}') from None


def main(argv: 'list[str] | None' = None) -> None:
    from rich.progress import track

    args = parse_args(argv)
    lists, repeated = {}, 0
    for split, name in LISTS.items():
        lists[split], again = read_ids(args.ids / name)
        repeated += again
    wanted, labelled = set().union(*lists.values()), {}
    for path in args.csv:
        for clip, content in read_csv(path).items():
            if clip not in wanted:
                continue
            if labelled.setdefault(clip, content) != content:
                raise SetupError(
                    f'{path}: {clip} is {content} here and {labelled[clip]} '
                    'in another csv file'
                )
    both = set(lists['train']) & set(lists['val'])
    # Of the lists, not of what was found: labels are the same everywhere.
    classes = sorted(
        {labelled[i][0] for ids in lists.values() for i in ids if i in labelled}
    )
    if not classes:
        raise SetupError(
            'none of the ids is in the csv files: are they those of '
            'Kinetics-400, train and validate?'
        )
    index = {name: number for number, name in enumerate(classes)}
    clips = find_clips(args.videos)

    contents = {'classes.txt': '\n'.join(classes) + '\n'}
    unusable, summary = [], []
    for split, ids in lists.items():
        lines, reasons, per_class = [], Counter(), Counter()
        for clip in track(ids, f'{split:5}', disable=args.quiet):
            label, start, end = labelled.get(clip, (None, 0, 0))
            if label is None:
                path, reason = None, 'not in the csv files'
            elif split == 'train' and clip in both:
                path, reason = None, 'also in the val list'
            else:
                paths = clips.get(clip, [])
                path, reason = choose(args.videos, paths, start, end)
            if path is None:
                reasons[reason] += 1
                unusable.append(f'{split}\t{clip}\t{label}\t{reason}\n')
            else:
                per_class[label] += 1
                lines.append(f'{path.as_posix()}\t{index[label]}\n')
        contents[f'{split}.txt'] = ''.join(lines)
        counts = [per_class[name] for name in classes]
        summary.append(
            f'{split}: {len(lines)} of {len(ids)} clips found, '
            f'{min(counts)} to {max(counts)} a class'
            + ''.join(f'; {n} {r}' for r, n in sorted(reasons.items()))
        )
    contents['unusable.txt'] = ''.join(unusable)
    print('\n'.join(summary))
    print(f'{len(classes)} classes, {repeated} repeated ids')
    if len(classes) != NUM_CLASSES:
        print(
            f'warning: Mini-Kinetics has {NUM_CLASSES} classes; with '
            f'{len(classes)} the labels are not those of others'
        )
    if not contents['train.txt'] or not contents['val.txt']:
        raise SetupError(
            f'no usable clip for train or val below {args.videos}: they are '
            'recognised by their names, ID_START_END.mp4 or ID.mp4'
        )
    if args.dry_run:
        print('dry run: nothing written')
        return
    write_all(args.out, contents)
    print(f'wrote {", ".join(sorted(contents))} to {args.out}')
    for given, read in ((args.videos, VIDEOS), (args.out, OUT)):
        if given.resolve() != read.resolve():
            print(
                f'the configs read {read}: mkdir -p {read.parent} && '
                f'ln -sfn {given.resolve()} {read}'
            )


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--ids',
        type=Path,
        required=True,
        help=f'folder of the id lists: {", ".join(LISTS.values())}',
    )
    parser.add_argument(
        '--csv',
        type=Path,
        nargs='+',
        required=True,
        help='csv files of Kinetics-400: train and validate',
    )
    parser.add_argument(
        '--videos',
        type=Path,
        default=VIDEOS,
        help='folder of the clips (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=OUT,
        help='folder to write to (default: %(default)s)',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='report, write nothing'
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    return parser.parse_args(argv)


if __name__ == '__main__':
    run(main)
