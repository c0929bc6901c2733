"""Write the annotation files of Mini-Kinetics-200.

From the two id lists of github.com/s9xie/Mini-Kinetics-200, the csv files of
Kinetics-400 and a folder of its clips (any depth; the clips stay where they
are):

    python tools/data/minikinetics.py --ids Mini-Kinetics-200 \\
        --csv train.csv validate.csv --videos data/kinetics400 \\
        --out data/minikinetics

In mmaction2's layout of Kinetics-400 the labels are already there. Without
--csv they are taken from kinetics400_{train,val}_list_videos.txt in the folder
of the clips or, without these, from the names of the class folders.

Written: train.txt and val.txt (path<tab>label), classes.txt (name of each
label; sorted, so the labels are the same everywhere), unusable.txt (split,
id, class, reason; a ' precedes an id that begins with a dash, which a
spreadsheet would take for a formula). Many clips are gone today: what is
missing is counted and listed, and is no error.
"""

import argparse
import csv
import io
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError, printable
from .lists import (
    UNUSABLE,
    Report,
    add_options,
    decode_clip,
    fault,
    find_faults,
    listing_fault,
    make_parser,
    print_links,
    print_reports,
    read_lines,
    read_text,
    relative_path,
    unusable_list,
    walk,
    write_all,
)

LISTS = dict(train='train_ytid_list.txt', val='val_ytid_list.txt')
MMACTION_LISTS = tuple(
    f'kinetics400_{split}_list_videos.txt' for split in LISTS
)
OFFICIAL = dict(train=80_000, val=5_000)
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
ID_LENGTH = 11
ID = re.compile(r'[\w-]{11}', re.ASCII)
CLIP = re.compile(r'(?P<id>[\w-]{11})(?:_(\d{6})_(\d{6}))?', re.ASCII)
NUMBER = re.compile('[0-9]{1,9}')
SUFFIXES = {'.mp4', '.mkv', '.webm', '.avi'}
NUM_CLASSES = 200
# folders that mmaction2's layout and others have above the classes
SPLITS = {'', 'train', 'val', 'validate', 'videos_train', 'videos_val'}
# where the configs look
VIDEOS, OUT = Path('data/kinetics400'), Path('data/minikinetics')

# id -> name of its class, start and end in seconds (None: any)
Labels = dict[str, tuple[str, int | None, int | None]]


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
    ids = []
    origin = f'--ids takes the folder with {" and ".join(LISTS.values())}'
    for place, line in read_lines(path, origin):
        if not ID.fullmatch(line):
            raise SetupError(
                f'{place}: {line!r} is no YouTube id of 11 characters'
            )
        ids.append(line)
    unique = list(dict.fromkeys(ids))
    return unique, len(ids) - len(unique)


def read_csv(path: Path) -> Labels:
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


def read_csvs(paths: 'list[Path]', wanted: 'set[str]') -> Labels:
    """Read the rows of all csv files that are wanted.

    Args:
        paths (list[Path]): csv files of Kinetics-400.
        wanted (set[str]): Ids.

    Returns:
        dict: For each id its class, start and end in seconds.

    Raises:
        SetupError: As in :func:`read_csv`, or if two files differ.
    """
    labels = {}
    for path in paths:
        for clip, content in read_csv(path).items():
            if clip not in wanted:
                continue
            if labels.setdefault(clip, content) != content:
                raise SetupError(
                    f'{path}: {clip} is {content} here and {labels[clip]} '
                    'in another csv file'
                )
    return labels


def read_mmaction_lists(paths: 'list[Path]', wanted: 'set[str]') -> Labels:
    """Read mmaction2's lists, lines ``[FOLDER/]CLASS/CLIP LABEL``.

    mmaction2 replaces the blanks of class names by underscores; here they
    are blanks again, as in the csv files. A label whose clips are in no class
    folder has its number for a name.

    Args:
        paths (list[Path]): The lists.
        wanted (set[str]): Ids.

    Returns:
        dict: For each id its class, start and end in seconds.

    Raises:
        MissingDataError: If a list does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or it
            contradicts another one; it is named.
    """
    rows, names, numbers = {}, {}, {}
    for path in paths:
        for place, line in read_lines(path, 'both are needed, or --csv'):
            name, _, text = line.rpartition(' ')
            if not NUMBER.fullmatch(text):
                raise SetupError(f'{place}: no label at the end: {line!r}')
            file = PurePosixPath(relative_path(name.strip(), place))
            match = CLIP.fullmatch(file.stem)
            if not match or match['id'] not in wanted:
                continue
            label, group = int(text), class_of(file)
            if group:
                other = names.setdefault(label, group)
                number = numbers.setdefault(group, label)
                if (other, number) != (group, label):
                    raise SetupError(
                        f'{place}: label {label} for {group!r}; further up '
                        f'label {label} is {other!r}, and {group!r} has '
                        f'label {number}'
                    )
            times = match.groups()[1:]
            row = (label, *(int(time) if time else None for time in times))
            if rows.setdefault(match['id'], row) != row:
                raise SetupError(
                    f'{place}: {match["id"]} is {row} here and '
                    f'{rows[match["id"]]} further up'
                )
    return {
        clip: (names.get(label, f'{label:03d}'), *times)
        for clip, (label, *times) in rows.items()
    }


def read_folders(clips: 'dict[str, list[Path]]', wanted: 'set[str]') -> Labels:
    """Take the labels of clips from the folders they are in.

    Args:
        clips (dict[str, list[Path]]): What :func:`find_clips` returns.
        wanted (set[str]): Ids.

    Returns:
        dict: For each id its class, and twice None for its times.

    Raises:
        SetupError: If a clip is in no class folder, or in two.
    """
    labels = {}
    for clip in sorted(wanted & set(clips)):
        names = sorted({class_of(path) for path in clips[clip]})
        if '' in names or len(names) > 1:
            found = ', '.join(path.as_posix() for path in clips[clip])
            raise SetupError(
                f'no label for {found}: in no class folder, or in several. '
                'Name the csv files of Kinetics-400 with --csv'
            )
        labels[clip] = (names[0], None, None)
    if len({name for name, *_ in labels.values()}) == 1:
        raise SetupError(
            f'all clips are in folders of one name, {names[0]!r}: these are '
            'no class folders. Name the csv files of Kinetics-400 with --csv'
        )
    return labels


def class_of(path: PurePosixPath) -> str:
    """Name of the class whose folder a clip is in; '' if in none."""
    folder = path.parent.name
    return (
        '' if folder in SPLITS else printable(folder.replace('_', ' ').strip())
    )


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
    clips = defaultdict(list)
    for folder, names in walk(root, '--videos'):
        for name in names:
            stem, dot, suffix = name.rpartition('.')
            match = CLIP.fullmatch(stem)
            if match and dot + suffix.lower() in SUFFIXES:
                clips[match['id']].append(Path(folder, name))
    for paths in clips.values():
        paths.sort(key=lambda path: (len(path.stem) == ID_LENGTH, path))
    return clips


def choose(
    root: Path,
    paths: 'list[Path]',
    start: 'int | None',
    end: 'int | None',
) -> 'tuple[Path | None, str]':
    """Choose the file that holds one clip.

    Args:
        root (Path): Folder that the paths are relative to.
        paths (list[Path]): The files of this id.
        start (int | None): First second of the clip in its video; None if
            any will do.
        end (int | None): Last second.

    Returns:
        tuple[Path | None, str]: The file, or None and the reason.
    """
    if not paths:
        return None, 'missing'
    reason = 'other seconds of the video'
    for path in paths:
        times = CLIP.fullmatch(path.stem).groups()[1:]
        if start is not None and times not in (
            (f'{start:06d}', f'{end:06d}'),
            (None, None),
        ):
            continue
        reason = listing_fault(path.as_posix()) or fault(root / path)
        if not reason:
            return path, ''
    return None, reason


def read_labels(
    args: argparse.Namespace,
    lists: 'dict[str, list[str]]',
    clips: 'dict[str, list[Path]]',
) -> 'tuple[Labels, list[str], str]':
    """Read the labels from the best source there is.

    Args:
        args (Namespace): The options.
        lists (dict[str, list[str]]): Ids of each split.
        clips (dict[str, list[Path]]): What :func:`find_clips` returns.

    Returns:
        tuple[dict, list[str], str]: For each id its class, start and end; the
        classes in order; and why an id may have none.

    Raises:
        SetupError: If there is no label at all, or one is contradictory.
    """
    wanted = set().union(*lists.values())
    if args.csv:
        labels = read_csvs(args.csv, wanted)
        source, reason = 'the csv files', 'not in the csv files'
    elif any((args.videos / name).is_file() for name in MMACTION_LISTS):
        paths = [args.videos / name for name in MMACTION_LISTS]
        labels = read_mmaction_lists(paths, wanted)
        source, reason = ' and '.join(MMACTION_LISTS), 'not in the lists'
    else:
        labels = read_folders(clips, wanted)
        source, reason = 'the class folders', 'missing'
    # of all that has a label, not of what was found: the same everywhere
    classes = sorted({label for label, *_ in labels.values()})
    if not classes:
        raise SetupError(
            f'none of the ids is in {source}: --csv takes those of '
            'Kinetics-400, train and validate'
        )
    print(f'labels: from {source}')
    return labels, classes, reason


def main(argv: 'list[str] | None' = None) -> None:
    from rich.progress import track

    args = parse_args(argv)
    lists, repeated = {}, 0
    for split, name in LISTS.items():
        lists[split], again = read_ids(args.ids / name)
        repeated += again
    both = set(lists['train']) & set(lists['val'])
    clips = find_clips(args.videos)
    labels, classes, unlabelled = read_labels(args, lists, clips)
    index = {name: number for number, name in enumerate(classes)}

    contents = {'classes.txt': '\n'.join(classes) + '\n'}
    reports = []
    for split, ids in lists.items():
        report = Report(split, classes, 'clips')
        chosen = []  # id, class, file or None, reason
        for clip in track(ids, f'{split:5}', disable=args.quiet):
            label, start, end = labels.get(clip, (None, None, None))
            if label is None:
                path, reason = None, unlabelled
            elif split == 'train' and clip in both:
                path, reason = None, 'also in the val list'
            else:
                paths = clips.get(clip, [])
                path, reason = choose(args.videos, paths, start, end)
            chosen.append((clip, label, path, reason))
        if args.decode:
            chosen = decode(chosen, args, split)
        lines = [
            f'{path.as_posix()}\t{index[label]}\n'
            for clip, label, path, reason in chosen
            if report.add(clip, label, reason)
        ]
        contents[f'{split}.txt'] = ''.join(lines)
        reports.append(report)
    contents[UNUSABLE] = unusable_list(reports)
    print_reports(reports, args, OFFICIAL)
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
    if write_all(args.out, contents, args):
        print_links({VIDEOS: args.videos, OUT: args.out})


def decode(
    chosen: 'list[tuple]', args: argparse.Namespace, split: str
) -> 'list[tuple]':
    """Decode the files that were chosen; return the list with the faults."""
    files = [args.videos / path for *_, path, _ in chosen if path]
    faults = iter(find_faults(files, split, args, decode_clip))
    return [
        (clip, label, path, reason or next(faults))
        for clip, label, path, reason in chosen
    ]


def parse_args(argv: 'list[str] | None' = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
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
        help='csv files of Kinetics-400: train and validate; without them '
        "the labels are those of mmaction2's lists or class folders",
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
    add_options(parser, decode=False, what='the first frame of each clip')
    return parser.parse_args(argv)
