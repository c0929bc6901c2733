"""Write the annotation files of Mini-Kinetics-200."""

import csv
import io
import os
import re
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from rich.progress import track

from ...errors import MissingDataError, SetupError
from ..decode import inspect_file
from . import lists
from .clips import Clip, write_annotations

ID_LISTS = dict(train='train_ytid_list.txt', val='val_ytid_list.txt')
OFFICIAL = 80_000, 5_000  # clips for training and validation
COLUMNS = ('label', 'youtube_id', 'time_start', 'time_end')
ID = re.compile(r'[\w-]{11}', re.ASCII)
SUFFIXES = ('.mp4', '.mkv', '.webm', '.avi')
# The configs read these folders.
VIDEOS, OUT = Path('data/kinetics400'), Path('data/minikinetics')
# A column or a field is missing, a number is none, a quote is left open.
FAULTS = (KeyError, AttributeError, ValueError, OverflowError, csv.Error)

# Class, start and end in seconds, by id.
Labels = dict[str, tuple[str, int, int]]
# Paths relative to the folder of the clips, by their names without suffix.
Clips = dict[str, list[Path]]


def prepare_minikinetics(args: Namespace) -> None:
    """Write the annotation files, and print what they hold.

    Args:
        args (Namespace): The options of tools/data/minikinetics.py.

    Raises:
        MissingDataError: If a file or folder does not exist.
        SetupError: If the labels have a fault, or no clip is usable.
    """
    ids = {
        split: read_ids(args.ids / name) for split, name in ID_LISTS.items()
    }
    labels = read_csv(args.csv, {*ids['train'], *ids['val']})
    if not labels:
        raise SetupError(
            'none of the ids is in the csv files: --csv takes those of '
            'Kinetics-400, train and validate'
        )
    # The classes of all labels, not of the clips: the same everywhere.
    classes = sorted({label for label, *_ in labels.values()})
    clips = find_clips(args.videos)
    tested = {
        clip: Clip(clip, labels[clip][0], 'also in the val list', '')
        for clip in labels.keys() & ids['val']
    }
    splits = {
        f'{split}.txt': [
            known.get(clip) or look_at(clip, clips, labels, args.videos)
            for clip in track(ids[split], split, transient=True)
        ]
        for split, known in (('train', tested), ('val', {}))
    }
    # Class folders may have blanks in their names.
    write_annotations(args.out, splits, classes, OFFICIAL, '\t')


def read_ids(path: Path) -> dict[str, None]:
    """Read one id list, a YouTube id a line.

    Returns:
        dict[str, None]: The ids in their order, each once.

    Raises:
        MissingDataError: If the file does not exist.
        SetupError: If a line is not an id; it is named.
    """
    ids = {}
    origin = f'--ids takes the folder with {" and ".join(ID_LISTS.values())}'
    for place, line in lists.read_lines(path, origin):
        if not ID.fullmatch(line):
            raise SetupError(
                f'{place}: {line!r} is not a YouTube id of 11 characters'
            )
        ids[line] = None
    return ids


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
                if clip in wanted and labels.setdefault(clip, label) != label:
                    raise SetupError(
                        f'{path}, line {line}: {label!r} for {clip!r}, '
                        f'further up {labels[clip]!r}'
                    )
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


def find_clips(root: Path) -> Clips:
    """Find the clips at any depth below a folder; links are followed.

    Returns:
        Clips: The files of each name, sorted.

    Raises:
        MissingDataError: If the folder does not exist.
    """
    if not root.is_dir():
        raise MissingDataError(f'--videos: no folder {root}')
    clips = defaultdict(list)
    for folder, _, names in os.walk(root, followlinks=True):
        for path in (Path(folder, name) for name in names):
            if path.suffix.lower() in SUFFIXES:
                clips[path.stem].append(path.relative_to(root))
    return {name: sorted(paths) for name, paths in clips.items()}


def look_at(clip: str, clips: Clips, labels: Labels, root: Path) -> Clip:
    """Look at the files that may hold a clip; take the first usable one.

    Args:
        clip (str): The id.
        clips (Clips): The clips that were found.
        labels (Labels): The labels.
        root (Path): Folder of the clips.
    """
    if clip not in labels:
        return Clip(clip, None, 'not in the csv files', '')
    label, start, end = labels[clip]
    # A file without seconds in its name may be the whole video.
    names = f'{clip}_{start:06d}_{end:06d}', clip
    reason = 'missing'
    for path in (path for name in names for path in clips.get(name, ())):
        name = path.as_posix()
        # A list holds one path a line, a tab, and the label.
        holds = name.isprintable() and name == name.strip()
        reason = 'path that no list can hold'
        if holds:
            reason = inspect_file(root / path)
        if not reason:
            return Clip(clip, label, '', name)
    return Clip(clip, label, reason, '')
