"""Write the annotation files of Mini-Kinetics-200."""

import csv
import io
import re
from argparse import Namespace
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ...errors import MissingDataError, SetupError, printable
from . import files, lists

ID_LISTS = dict(train='train_ytid_list.txt', val='val_ytid_list.txt')
MMACTION_LISTS = tuple(
    f'kinetics400_{split}_list_videos.txt' for split in ID_LISTS
)
CLASSES = 200
OFFICIAL = dict(train=80_000, val=5_000)
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
ID = re.compile(r'[\w-]{11}', re.ASCII)
CLIP = re.compile(r'(?P<id>[\w-]{11})(?:_(\d{6})_(\d{6}))?', re.ASCII)
SUFFIXES = ('.mp4', '.mkv', '.webm', '.avi')
# Folders above the classes, in mmaction2's layout and in others.
SPLITS = {'', 'train', 'val', 'validate', 'videos_train', 'videos_val'}
# The configs read these folders.
VIDEOS, OUT = Path('data/kinetics400'), Path('data/minikinetics')
# A column or a field is missing, a number is none, a quote is left open.
FAULTS = (KeyError, AttributeError, ValueError, OverflowError, csv.Error)
ADVICE = 'Name the csv files of Kinetics-400 with --csv'

# Class, start and end in seconds (None: any), by id.
Labels = dict[str, tuple]
# Paths relative to the folder of the clips, by id.
Clips = dict[str, list[PurePosixPath]]


def prepare_minikinetics(args: Namespace) -> None:
    """Write the annotation files, and print what they hold.

    Args:
        args (Namespace): The options of tools/data/minikinetics.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If the labels have a fault, no clip is usable, or the
            lists cannot be written.
    """
    ids = {
        split: read_ids(args.ids / name) for split, name in ID_LISTS.items()
    }
    clips = find_clips(args.videos)
    labels, unlabelled = read_labels(args, clips, {*ids['train'], *ids['val']})
    # The classes of all labels, not of the clips: the same everywhere.
    classes = sorted({label for label, *_ in labels.values()})
    reports = []
    for split, listed in ids.items():
        found = {
            clip: find_candidates(clip, clips, labels, unlabelled)
            for clip in dict.fromkeys(listed)
        }
        if split == 'train':
            twice = found.keys() & labels.keys() & set(ids['val'])
            found.update(dict.fromkeys(twice, ([], 'also in the val list')))
        reports.append(look_at(split, found, labels, classes, args))
    files.print_reports(reports, OFFICIAL.values(), args.per_class)
    repeated = sum(len(of) - len(set(of)) for of in ids.values())
    why = f'; with {len(classes)} the labels are not those of others'
    more = f', {repeated} repeated ids'
    files.print_classes('Mini-Kinetics', CLASSES, classes, more, why)
    hint = ': clips are recognised by their names, ID_START_END.mp4 or ID.mp4'
    contents = files.make_lists(reports, args.videos, hint, separator='\t')
    if lists.write_lists(args.out, contents, args.dry_run):
        lists.print_links({VIDEOS: args.videos, OUT: args.out})


def read_ids(path: Path) -> list[str]:
    """Read one id list, a YouTube id a line.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is not an id; it is named.
    """
    ids = []
    origin = f'--ids takes the folder with {" and ".join(ID_LISTS.values())}'
    for place, line in lists.read_lines(path, origin):
        if not ID.fullmatch(line):
            raise SetupError(
                f'{place}: {line!r} is not a YouTube id of 11 characters'
            )
        ids.append(line)
    return ids


def find_clips(root: Path) -> Clips:
    """Find the clips at any depth below a folder.

    Returns:
        Clips: The files of each id; those with seconds in their name before
        those without, then sorted.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    clips = defaultdict(list)
    for name in files.find_files(root, SUFFIXES, '--videos'):
        match = CLIP.fullmatch(PurePosixPath(name).stem)
        if match:
            clips[match['id']].append(PurePosixPath(name))
    for paths in clips.values():
        paths.sort(key=lambda path: (bool(ID.fullmatch(path.stem)), path))
    return clips


def read_labels(
    args: Namespace, clips: Clips, wanted: set[str]
) -> tuple[Labels, str]:
    """Read the labels from the best source there is.

    Args:
        args (Namespace): The options.
        clips (Clips): The clips.
        wanted (set[str]): The ids that need a label.

    Returns:
        tuple[Labels, str]: The labels, and why an id may have none.

    Raises:
        SetupError: If there is no label at all, or one is contradictory.
    """
    paths = [args.videos / name for name in MMACTION_LISTS]
    if args.csv:
        labels = read_csv(args.csv, wanted)
        source, reason = 'the csv files', 'not in the csv files'
    elif any(path.is_file() for path in paths):
        labels = read_mmaction_lists(paths, wanted)
        source, reason = ' and '.join(MMACTION_LISTS), 'not in the lists'
    else:
        labels = read_folders(clips, wanted)
        source, reason = 'the class folders', 'missing'
    if not labels:
        raise SetupError(
            f'none of the ids is in {source}: --csv takes those of '
            'Kinetics-400, train and validate'
        )
    print(f'labels: from {source}')
    return labels, reason


def read_csv(paths: list[Path], wanted: set[str]) -> Labels:
    """Read the csv files of Kinetics-400.

    Args:
        paths (list[Path]): Files with the columns label, youtube_id,
            time_start, time_end.
        wanted (set[str]): The ids that need a label.

    Returns:
        Labels: The labels.

    Raises:
        MissingDataError: If a file does not exist.
        SetupError: If a column is missing, or a line is malformed or
            contradicts another one; it is named.
    """
    labels = {}
    for path in paths:
        if not path.is_file():
            raise MissingDataError(f'--csv: {path} does not exist')
        file = io.StringIO(lists.read_text(path), newline='')
        reader, line = csv.DictReader(file, strict=True), 1
        try:
            for row in reader:
                clip, label = parse_row(row)
                line = reader.line_num
                if clip in wanted:
                    place = f'{path}, line {line}'
                    lists.add_once(labels, clip, label, place)
        except FAULTS as error:
            # An open quote swallows the lines after it: the row's start.
            raise SetupError(
                f'{path}, line {line + 1}: {error}; is a quote left open, or '
                f'one of {", ".join(COLUMNS)} missing?'
            ) from None
    return labels


def parse_row(row: dict[str, str]) -> tuple[str, tuple[str, int, int]]:
    """Return the id of a row of a csv file, its class, start and end.

    Raises:
        KeyError: If a column is missing.
        AttributeError: If a field is missing.
        ValueError: If a field is malformed.
    """
    label, clip, start, end = (row[column].strip() for column in COLUMNS)
    times = round(float(start)), round(float(end))
    named = label and label.isprintable() and ID.fullmatch(clip)
    if not named or not 0 <= times[0] < times[1]:
        raise ValueError(f'malformed: {[*row.values()]}')
    return clip, (label, *times)


def read_mmaction_lists(paths: list[Path], wanted: set[str]) -> Labels:
    """Read mmaction2's lists, lines ``[FOLDER/]CLASS/CLIP LABEL``.

    mmaction2 replaces the blanks of class names by underscores; here they
    are blanks again, as in the csv files. A label whose clips are in no class
    folder has its number for a name.

    Args:
        paths (list[Path]): The lists.
        wanted (set[str]): The ids that need a label.

    Returns:
        Labels: The labels.

    Raises:
        MissingDataError: If a list does not exist.
        SetupError: If a line is malformed, its path leaves the folder, or it
            contradicts another one; it is named.
    """
    rows, names, numbers = {}, {}, {}
    origin = 'both are needed, or --csv'
    for path in paths:
        for place, name, label in lists.read_labels(path, origin):
            match = CLIP.fullmatch(PurePosixPath(name).stem)
            if not match or match['id'] not in wanted:
                continue
            folder = class_of(PurePosixPath(name))
            if folder:
                lists.add_once(names, int(label), folder, place)
                lists.add_once(numbers, folder, int(label), place)
            times = [int(x) if x else None for x in match.groups()[1:]]
            row = int(label), *times
            lists.add_once(rows, match['id'], row, place)
    return {
        clip: (names.get(label, f'{label:03d}'), *times)
        for clip, (label, *times) in rows.items()
    }


def read_folders(clips: Clips, wanted: set[str]) -> Labels:
    """Take the labels of clips from the folders they are in.

    Args:
        clips (Clips): The clips.
        wanted (set[str]): The ids that need a label.

    Returns:
        Labels: The labels, without times.

    Raises:
        SetupError: If a clip is in no class folder, or in two.
    """
    labels = {}
    for clip in sorted(wanted & set(clips)):
        names = {class_of(path) for path in clips[clip]}
        if '' in names or len(names) > 1:
            found = ', '.join(path.as_posix() for path in clips[clip])
            raise SetupError(
                f'no label for {found}: in no class folder, or in several. '
                + ADVICE
            )
        labels[clip] = *names, None, None
    if len({name for name, *_ in labels.values()}) == 1:
        raise SetupError(
            f'all clips are in folders of one name, {names}: these are not '
            f'class folders. {ADVICE}'
        )
    return labels


def class_of(path: PurePosixPath) -> str:
    """Return the class whose folder a clip is in; '' if in none."""
    folder = path.parent.name
    if folder in SPLITS:
        return ''
    return printable(folder.replace('_', ' ').strip())


def find_candidates(
    clip: str, clips: Clips, labels: Labels, unlabelled: str
) -> tuple[list[PurePosixPath], str]:
    """Find the files that may hold a clip, and why there may be none.

    Args:
        clip (str): Its id.
        clips (Clips): The clips.
        labels (Labels): The labels.
        unlabelled (str): Why it may have none.

    Returns:
        tuple[list[PurePosixPath], str]: The files and the reason.
    """
    if clip not in labels:
        return [], unlabelled
    if clip not in clips:
        return [], 'missing'
    _, start, end = labels[clip]
    if start is None:
        return clips[clip], ''
    names = clip, f'{clip}_{start:06d}_{end:06d}'
    fitting = [path for path in clips[clip] if path.stem in names]
    return fitting, 'other seconds of the video'


def look_at(
    split: str,
    found: dict[str, tuple[list[PurePosixPath], str]],
    labels: Labels,
    classes: list[str],
    args: Namespace,
) -> files.Report:
    """Look at the files of the clips; take the first usable file of each.

    Args:
        split (str): Name of the split.
        found (dict): Files of each clip, and the reason if there is none.
        labels (Labels): The labels of the clips.
        classes (list[str]): Name of each label.
        args (Namespace): The options.

    Returns:
        Report: What the split holds.
    """
    names = [path for candidates, _ in found.values() for path in candidates]
    paths, title = [args.videos / name for name in names], f'{split:5}'
    found_faults = files.find_faults(paths, title, args, files.decode_clip)
    faults, rows = dict(zip(names, found_faults)), []
    for clip, (candidates, reason) in found.items():
        label, name = labels.get(clip, (None,))[0], ''
        for path in candidates:
            name = path.as_posix()
            reason = lists.listing_fault(name) or faults[path]
            if not reason:
                break
        rows.append((clip, label, reason, name))
    return files.Report(split, classes, rows, 'clips')
