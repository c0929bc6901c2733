"""movingdigits: real mp4 files of two digits whose *relation* is the class.

Two different digits stand, walk and stand again, on a canvas whose edges are
joined (what leaves at the right comes in at the left). At each end of the clip
they stand in one of three relations: beside each other (half a canvas apart
along x), above each other (half a canvas apart along y), or diagonally (both).
The class is the ordered pair of the relation at the start and the one at the
end: 3 x 3 = 9 classes.

What does not tell the class:

- one digit. Where it starts and ends is uniform on the canvas and the way
  between is drawn alike, whatever the class: by itself it gives chance, 1/9.
- one end of the clip. It shows one of the two relations: at most 1/3.
- a single frame between. Both digits wander off the straight line, so the
  relation there tells little about either end.
- which digits they are, their brightness, the background: drawn independently
  of the class.

On the pixels (ResNet3d-18, 450 iterations, one run): first and last frame
1.00, first alone 0.31, last alone 0.29, middle alone 0.11.

So a network has to relate two places half a canvas apart, at two times a clip
apart.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.progress import track

from ..errors import SetupError
from .generate import check_least, load_split, write_splits

RELATIONS = ('beside', 'above', 'diagonal')
CLASSES = tuple(f'{a}-{b}' for a in RELATIONS for b in RELATIONS)
DIGIT = 16  # pixels, twice scikit-learn's size


def prepare_moving_digits(
    root: str,
    num_train: int = 1200,
    num_test: int = 300,
    size: int = 64,
    num_frames: int = 16,
    stand: float = 0.125,
) -> None:
    """Write the data set to ``root``, once.

    ``{train,test}.txt`` list ``videos/NAME.mp4 LABEL``, ``classes.txt`` the
    class names in order, ``{train,test}.npz`` the true positions.

    Args:
        root (str): Folder to write.
        num_train (int): Number of training clips. Defaults to 1200.
        num_test (int): Number of test clips. Defaults to 300.
        size (int): Height and width in pixels, 32 or 64 (of the sizes
            between, decord 0.6.0 cannot read 48). Defaults to 64.
        num_frames (int): Frames of a clip, at least 2. Defaults to 16.
        stand (float): Share of the clip, below 0.5, that the digits stand at
            each end before and after they walk; the smaller, the harder.
            Defaults to 0.125.

    Raises:
        ValueError: If an option is out of range.
        SetupError: If ``root`` holds something else, or PyAV or its H.264
            encoder is missing.
    """
    if size not in (32, 64):
        raise ValueError(f'size must be 32 or 64, got {size}')
    if not 0 <= stand < 0.5:
        raise ValueError(
            f'stand must be at least 0 and below 0.5, got {stand}'
        )
    check_least(2, num_frames=num_frames)
    counts = dict(train=num_train, test=num_test)
    options = dict(size=size, num_frames=num_frames, stand=stand)
    write_splits(root, 'movingdigits', _write_split, counts, **options)


def sample_paths(
    rng: np.random.Generator,
    label: int,
    size: int,
    num_frames: int,
    stand: float,
) -> np.ndarray:
    """Draw the paths of the two digits of one clip.

    Args:
        rng (Generator): Source of randomness.
        label (int): Index into :data:`CLASSES`.
        size (int): Side of the canvas in pixels.
        num_frames (int): Number of frames T.
        stand (float): Share of the clip that they stand at each end.

    Returns:
        ndarray: Centres (2, T, 2) as x, y in pixels, 0 <= value < size.
    """
    half = size / 2
    offsets = ((half, 0), (0, half), (half, half))
    ends = np.empty((2, 2, 2))  # digit, start or end, x and y
    for end, relation in enumerate(divmod(label, len(RELATIONS))):
        ends[0, end] = rng.uniform(0, size, 2)
        ends[1, end] = ends[0, end] + offsets[relation]
        ends[1, end] += rng.normal(0, size / 64, 2)
    # stand, walk the shorter way round at a pace of its own, stand
    time = np.linspace(0, 1, num_frames)[None, :, None]
    time = np.clip((time - stand) / (1 - 2 * stand), 0, 1)
    time = time ** np.exp(rng.uniform(-0.4, 0.4, (2, 1, 1)))
    way = (ends[:, 1:] - ends[:, :1] + half) % size - half
    detour = rng.uniform(-half / 2, half / 2, (2, 1, 2))
    paths = ends[:, :1] + time * way + np.sin(np.pi * time) * detour
    return paths % size


def render(
    paths: np.ndarray,
    stamps: np.ndarray,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a clip.

    Args:
        paths (ndarray): Centres (2, T, 2) as x, y in pixels.
        stamps (ndarray): The two digits (2, h, w), 0 to 255.
        size (int): Side of the canvas in pixels.
        rng (Generator): Source of the brightness and the background.

    Returns:
        ndarray: Frames (T, size, size), uint8.
    """
    height, width = stamps.shape[1:]
    level = rng.uniform(0.7, 1.0, 2)
    ground = rng.uniform(0, 40) + rng.normal(0, 8, (size, size))
    frames = np.repeat(ground[None], paths.shape[1], axis=0)
    for stamp, path, bright in zip(stamps, paths, level):
        for frame, (x, y) in zip(frames, path):
            rows = (round(y) - height // 2 + np.arange(height)) % size
            columns = (round(x) - width // 2 + np.arange(width)) % size
            place = np.ix_(rows, columns)
            frame[place] = np.maximum(frame[place], bright * stamp)
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def write_clips(
    folder: Path,
    split: str,
    names: Iterable[str],
    labels: np.ndarray,
    clips: Iterable[np.ndarray],
    **encoding: str,
) -> None:
    """Write the clips of a split, their list and the names of the classes.

    Args:
        folder (Path): Folder of the data set.
        split (str): 'train' or 'test'.
        names (Iterable): The classes in order.
        labels (ndarray): Index of the class of each clip.
        clips (Iterable): Grey frames (T, H, W), uint8, of each clip.
        **encoding: Further options of the encoder.

    Raises:
        SetupError: If PyAV or its H.264 encoder is missing.
    """
    (folder / 'videos').mkdir(exist_ok=True)
    (folder / 'classes.txt').write_text('\n'.join(names) + '\n')
    lines = []
    pairs = zip(labels, clips)
    shown = track(pairs, f'{split} clips', len(labels), transient=True)
    for index, (label, frames) in enumerate(shown):
        name = f'videos/{split}_{index:05d}.mp4'
        write_video(folder / name, frames, **encoding)
        lines.append(f'{name} {label}\n')
    (folder / f'{split}.txt').write_text(''.join(lines))


def write_video(path: Path, frames: np.ndarray, **encoding: str) -> None:
    """Encode grey frames (T, H, W), uint8, as an H.264 mp4 file.

    Raises:
        SetupError: If PyAV or its H.264 encoder is missing.
    """
    av = import_av('the generated videos are written with')
    with av.open(str(path), 'w') as container:
        # One thread, no rate control: the same bytes every time. With crf,
        # one clip in some hundreds differed.
        options = {'qp': '12', 'threads': '1', **encoding}
        stream = container.add_stream('libx264', rate=8, options=options)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = 'yuv420p'
        for planes in _to_yuv420p(frames):
            picture = av.VideoFrame.from_ndarray(planes, format='yuv420p')
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _to_yuv420p(frames: np.ndarray) -> np.ndarray:
    """Grey frames (T, H, W) as stacked planes (T, H * 3 / 2, W), uint8.

    Done here, so that the bytes do not depend on the version of a converter.
    """
    luma = np.round(16 + frames * (219 / 255))
    chroma = np.full((len(frames), frames.shape[1] // 2, frames.shape[2]), 128)
    return np.concatenate([luma, chroma], 1).astype(np.uint8)


def import_av(purpose: str):
    """Import PyAV with its H.264 encoder.

    Args:
        purpose (str): What is said of PyAV where it is missing, up to its
            name.

    Raises:
        SetupError: If PyAV or its H.264 encoder is missing.
    """
    try:
        import av  # an optional dependency
    except ImportError as error:
        raise SetupError(f'{purpose} PyAV: run `pip install av`') from error
    if 'libx264' not in av.codecs_available:
        raise SetupError(
            f'this PyAV ({av.__version__}) was built without libx264: run '
            '`pip install --force-reinstall --only-binary av av`'
        )
    return av


def _write_split(
    folder: Path, split: str, number: int, rng: np.random.Generator, **options
) -> None:
    """Write the clips, the list and the true positions of one split."""
    images, digits = load_split(split)
    images = images.repeat(DIGIT // 8, 1).repeat(DIGIT // 8, 2)
    labels = rng.permutation(np.arange(number) % len(CLASSES))
    all_paths = []

    def draw_clip(label: int) -> np.ndarray:
        # two different digits
        first = int(rng.integers(len(digits)))
        others = np.flatnonzero(digits != digits[first])
        second = int(rng.choice(others))
        paths = sample_paths(rng, label, **options)
        all_paths.append(paths)
        return render(paths, images[[first, second]], options['size'], rng)

    clips = map(draw_clip, labels.tolist())
    write_clips(folder, split, CLASSES, labels, clips)
    np.savez_compressed(
        folder / f'{split}.npz', paths=np.stack(all_paths), labels=labels
    )
