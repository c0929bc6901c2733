"""relations: mp4 files of handwritten digits whose two ends tell the class.

A clip has a part at each end and a gap between them, which shows the ground
alone. A part shows one picture, at a place of its own. Tasks:

- same: both parts show a digit. Is it the same digit? One clip in two says
  yes.
- cue: the first part shows one of C bars (the cue c, the bar's angle), the
  second a digit d. The class is (d + c * K / C) mod K, with K digits.
- digit: every frame shows another picture of one digit, the class. There is
  no relation to see: this is a start for the networks of the other tasks.

A network that adds up its frames gives each class a sum of one number a
frame. :func:`additive_bound` says what the best of these networks reaches,
whatever it sees in a frame: docs/relations.md has the proof. For it to hold,
the pictures, the places, the brightness and the grounds of the parts are
drawn independently, and the encoder codes every frame by itself.
"""

import math
from pathlib import Path

import numpy as np

from .digits import CLASSES, enlarge
from .generate import check_least, load_split, write_splits
from .moving_digits import DIGIT, render, write_clips

TASKS = ('same', 'cue', 'digit')
BAR = 3  # pixels
# What an additive network reaches at most, by the number of cues.
CUE_BOUNDS = {2: 3 / 4, 3: 7 / 9, 4: 3 / 4, 5: 19 / 25}


def prepare_relations(
    root: str,
    num_train: int = 6000,
    num_test: int = 600,
    task: str = 'same',
    num_digits: int = 10,
    num_cues: int = 2,
    size: int = 32,
    num_frames: int = 3,
    gap: int = 1,
) -> None:
    """Write the data set to ``root``, once.

    ``{train,test}.txt`` list ``videos/NAME.mp4 LABEL``, ``classes.txt`` the
    class names in order. ``{train,test}.npz`` hold for each part of each clip
    what it shows (``shown``, a digit or a cue), which picture of
    :func:`~cgnl_mm.datasets.generate.load_split` that is (``pictures``, -1
    for a cue) and its centre (``places``, x and y in pixels).

    Args:
        root (str): Folder to write.
        num_train (int): Number of training clips. Defaults to 6000.
        num_test (int): Number of test clips. Defaults to 600.
        task (str): 'same', 'cue' or 'digit'. Defaults to 'same'.
        num_digits (int): Digits in use, from 0 on, 2 to 10: the more, the
            harder. Defaults to 10.
        num_cues (int): Cues of the task 'cue', 2 to 5. It must divide
            ``num_digits``. Defaults to 2.
        size (int): Height and width in pixels, 32 or 64. Defaults to 32.
        num_frames (int): Frames of a clip. Defaults to 3.
        gap (int): Frames between the two parts, which share the others
            equally. Defaults to 1.

    Raises:
        ValueError: If an option is out of range.
        SetupError: If ``root`` holds something else, or PyAV or its H.264
            encoder is missing.
    """
    additive_bound(task, num_digits, num_cues)
    if size not in (32, 64):
        raise ValueError(f'size must be 32 or 64, got {size}')
    check_least(0, gap=gap)
    if num_frames - gap < 2 or (num_frames - gap) % 2:
        raise ValueError(
            'gap must leave an even number of frames, at least 2, of '
            f'num_frames={num_frames}, got {gap}'
        )
    counts = dict(train=num_train, test=num_test)
    options = dict(task=task, num_digits=num_digits, num_cues=num_cues)
    options.update(size=size, num_frames=num_frames, gap=gap)
    write_splits(root, 'relations', _write_split, counts, **options)


def class_names(task: str, num_digits: int = 10) -> tuple[str, ...]:
    """Name the classes of a task in order."""
    return ('different', 'same') if task == 'same' else CLASSES[:num_digits]


def additive_bound(
    task: str, num_digits: int = 10, num_cues: int = 2
) -> float:
    """Return what a network that adds up its frames reaches at most.

    Args:
        task (str): 'same', 'cue' or 'digit'.
        num_digits (int): Digits in use, 2 to 10. Defaults to 10.
        num_cues (int): Cues of the task 'cue', 2 to 5. Defaults to 2.

    Returns:
        float: The largest share of clips for which the sum of one number for
        each frame, by one function for all frames, is largest at the class.

    Raises:
        ValueError: If an option is out of range.
    """
    if task not in TASKS:
        raise ValueError(f'task must be one of {", ".join(TASKS)}, got {task}')
    if not 2 <= num_digits <= len(CLASSES):
        raise ValueError(f'num_digits must be 2 to 10, got {num_digits}')
    if num_cues not in CUE_BOUNDS or task == 'cue' and num_digits % num_cues:
        raise ValueError(
            f'num_cues must be 2 to 5 and divide num_digits={num_digits}, '
            f'got {num_cues}'
        )
    if task == 'cue':
        return CUE_BOUNDS[num_cues]
    same = 1 / 2 + (2 * num_digits - 1) / (12 * (num_digits - 1))
    return same if task == 'same' else 1.0


def draw_parts(
    rng: np.random.Generator,
    label: int,
    task: str,
    num_digits: int,
    num_cues: int,
) -> tuple[int, ...]:
    """Draw what the parts of a clip of a class show: digits, or cue first."""
    if task == 'digit':
        return (label,)
    if task == 'cue':
        cue = int(rng.integers(num_cues))
        return cue, (label - cue * num_digits // num_cues) % num_digits
    first = int(rng.integers(num_digits))
    away = 0 if label else int(rng.integers(1, num_digits))
    return first, (first + away) % num_digits


def draw_cue(cue: int, num_cues: int) -> np.ndarray:
    """Draw the bar of a cue, (DIGIT, DIGIT), 0 to 255."""
    angle = math.pi * cue / num_cues
    y, x = np.mgrid[:DIGIT, :DIGIT] - (DIGIT - 1) / 2
    across = np.abs(math.cos(angle) * y - math.sin(angle) * x)
    return 255.0 * ((across < BAR / 2) & (np.hypot(x, y) < DIGIT / 2))


def _write_split(
    folder: Path,
    split: str,
    number: int,
    rng: np.random.Generator,
    *,
    task: str,
    num_digits: int,
    num_cues: int,
    size: int,
    num_frames: int,
    gap: int,
) -> None:
    """Write the clips, the list and the truth of one split."""
    images, digits = load_split(split)
    images = np.stack([enlarge(image, DIGIT) for image in images])
    names = class_names(task, num_digits)
    labels = rng.permutation(np.arange(number) % len(names))
    count = 1 if task == 'digit' else (num_frames - gap) // 2
    truth: dict[str, list] = dict(shown=[], pictures=[], places=[])

    def draw_clip(label: int) -> np.ndarray:
        shown = draw_parts(rng, label, task, num_digits, num_cues)
        if task == 'digit':
            shown *= num_frames
        pictures = [
            int(rng.choice(np.flatnonzero(digits == d))) for d in shown
        ]
        stamps = images[pictures]
        if task == 'cue':
            pictures[0] = -1
            stamps = [draw_cue(shown[0], num_cues), stamps[1]]
        edge = DIGIT // 2
        places = rng.integers(edge, size - edge + 1, (len(shown), 1, 1, 2))
        parts = [
            render(place.repeat(count, 1), stamp[None], size, rng)
            for place, stamp in zip(places, stamps)
        ]
        if gap and task != 'digit':
            nothing = np.zeros((0, gap, 2)), np.zeros((0, DIGIT, DIGIT))
            parts.insert(1, render(*nothing, size, rng))
        for key, value in zip(truth, (shown, pictures, places[:, 0, 0])):
            truth[key].append(value)
        return np.concatenate(parts)

    clips = map(draw_clip, labels.tolist())
    write_clips(folder, split, names, labels, clips, g='1')
    np.savez_compressed(folder / f'{split}.npz', labels=labels, **truth)
