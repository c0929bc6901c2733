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
ID = re.compile(r'[\w-]{11}', re.ASCII)
CLIP = re.compile(r'(?P<id>[\w-]{11})(?:_(\d{6})_(\d{6}))?', re.ASCII)
SUFFIXES = {'.mp4', '.mkv', '.webm', '.avi'}
NUM_CLASSES = 200


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
    for number, line in enumerate(path.read_text().splitlines(), 1):
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
    rows = {}
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise SetupError(
                f'{path} has no column {", ".join(sorted(missing))}: is it a '
                'csv file of Kinetics-400 with labels?'
            )
        for row in reader:
            place = f'{path}, line {reader.line_num}'
            label, clip, start, end = (
                (row[column] or '').strip() for column in COLUMNS
            )
            if not label or not ID.fullmatch(clip) or None in row:
                raise SetupError(f'{place}: malformed: {list(row.values())}')
            try:
                content = (label, round(float(start)), round(float(end)))
            except ValueError:
                raise SetupError(
                    f'{place}: times must be seconds, got {start!r}, {end!r}'
                ) from None
            if rows.setdefault(clip, content) != content:
                raise SetupError(
                    f'{place}: {clip} is {content} here and {rows[clip]} '
                    'further up'
                )
    return rows


def find_clips(root: Path) -> 'dict[str, list[Path]]':
    """Find the clips below ``root``.

    Args:
        root (Path): Any depth below it is searched.

    Returns:
        dict[str, list[Path]]: For each id its files, relative to ``root``, in
        sorted order.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    if not root.is_dir():
        raise MissingDataError(f'--videos: no folder {root}')
    clips = defaultdict(list)
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            stem, suffix = os.path.splitext(name)
            match = CLIP.fullmatch(stem)
            if match and suffix.lower() in SUFFIXES:
                path = Path(folder, name).relative_to(root)
                clips[match['id']].append(path)
    return {clip: sorted(paths) for clip, paths in clips.items()}


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
        if '\t' in str(path) or '\n' in str(path):
            reason = 'tab or line break in the path'
        elif (root / path).stat().st_size == 0:
            reason = 'zero bytes'
        else:
            return path, ''
    return None, reason


def write_all(out: Path, contents: 'dict[str, str]') -> None:
    """Write files whole or not at all; an interrupted run loses nothing."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as partial:
        for name, text in contents.items():
            Path(partial, name).write_text(text, encoding='utf-8')
        for name in contents:
            os.replace(Path(partial, name), out / name)


def main(argv: 'list[str] | None' = None) -> None:
    from rich.progress import track

    args = parse_args(argv)
    lists, repeated = {}, 0
    for split, name in LISTS.items():
        lists[split], again = read_ids(args.ids / name)
        repeated += again
    labelled = {}
    for path in args.csv:
        for clip, content in read_csv(path).items():
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
        default=Path('data/kinetics400'),
        help='folder of the clips (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/minikinetics'),
        help='folder to write to (default: %(default)s)',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='report, write nothing'
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    return parser.parse_args(argv)


if __name__ == '__main__':
    run(main)
