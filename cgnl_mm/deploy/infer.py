"""Predictions for images and videos of a user's own, with pictures."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import mmcv
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from ..errors import SetupError, UnreadableFileError, printable
from ..hosts import host_of
from ..visualization.draw import drawable
from ..visualization.inputs import frames_of, load_sample

IMAGES = ('.avif', '.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff')
IMAGES += ('.webp',)
VIDEOS = ('.avi', '.flv', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg')
VIDEOS += ('.mpg', '.webm', '.wmv')
TOP = 5  # classes in a record and in a picture
FRAMES = 8  # frames in the picture of a video
SIDE = 6.4  # inches, the longer side of a picture of detections


def infer(
    model: nn.Module,
    cfg,
    path: Path,
    out: Path,
    score_thr: float = 0.3,
) -> None:
    """Predict for a file, or for all files of a folder and its subfolders.

    ``out/predictions.json`` is a whole list after each file, so that an
    interrupted run loses nothing.

    Args:
        model (Module): What :func:`cgnl_mm.deploy.model.build_model` built.
        cfg (Config): Its config.
        path (Path): An image, a video, or a folder of them.
        out (Path): Folder for the predictions and, below ``pictures``, for a
            picture of each.
        score_thr (float): Lowest score of a detection that counts.
            Defaults to 0.3.

    Raises:
        SetupError: There is no file that the network takes, or none can be
            read.
    """
    if not 0 <= score_thr <= 1:
        raise SetupError(f'--score-thr must be 0 to 1, got {score_thr}')
    suffixes = VIDEOS if host_of(cfg) == 'mmaction' else IMAGES
    files = find_files(path, suffixes, out / 'pictures')
    folder = path if path.is_dir() else path.parent
    names = [file.relative_to(folder) for file in files]
    target = out / 'predictions.json'
    out.mkdir(parents=True, exist_ok=True)
    failed, end, separator = 0, 0, '['
    with open(target, 'w', encoding='utf-8') as records:
        for number, (file, name) in enumerate(zip(files, names), 1):
            record = dict(file=str(file))
            try:
                found, fig = predict(model, cfg, file, score_thr)
            except UnreadableFileError as error:
                failed += 1
                record['error'] = str(error)
                print(f'unreadable: {printable(str(error))}', file=sys.stderr)
            else:
                record.update(found)
                line = printable(f'{name}: {_summary(**found)}')
                print(f'[{number}/{len(files)}] {line}')
                # The whole name: an a.jpg may lie beside an a.bmp.
                picture = out / 'pictures' / f'{name}.png'
                picture.parent.mkdir(parents=True, exist_ok=True)
                fig.savefig(picture, bbox_inches='tight', pad_inches=0.05)
            records.seek(end)
            records.write(separator + json.dumps(record, indent=2))
            end, separator = records.tell(), ', '
            records.write(']\n')
            records.flush()
    print(f'{len(files) - failed} predicted, {failed} unreadable: {target}')
    if failed == len(files):
        raise SetupError(f'nothing in {str(path)!r} could be read')


def _summary(top: Sequence[dict] = (), objects: Sequence[dict] = ()) -> str:
    if top:
        return f'{top[0]["name"]} ({top[0]["score"]:.1%})'
    return f'{len(objects)} objects'


def find_files(
    path: Path, suffixes: tuple[str, ...], pictures: Path
) -> list[Path]:
    """List a file, or a folder's files with one of the suffixes.

    Files in ``pictures`` are results of an earlier run.

    Raises:
        SetupError: There is no such file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SetupError(f'no file or folder {str(path)!r}')
    results = pictures.resolve()
    files, others = [], Counter()
    for file in sorted(path.rglob('*')):
        if not file.is_file() or results in file.resolve().parents:
            continue
        if file.suffix.lower() in suffixes:
            files.append(file)
        else:
            others[file.suffix] += 1
    if others:
        counts = ', '.join(f'{n} {printable(s)}' for s, n in others.items())
        print(
            f'note: left out, not of its suffixes: {counts}', file=sys.stderr
        )
    if not files:
        raise SetupError(
            f'no file in {str(path)!r} ends in {", ".join(suffixes)}, which '
            "this config's network takes"
        )
    return files


@torch.no_grad()
def predict(
    model: nn.Module, cfg, file: Path, score_thr: float
) -> tuple[dict, Figure]:
    """Put a file through the test pipeline and the network.

    Returns:
        tuple[dict, Figure]: 'top' (the best classes) or 'objects', and the
        picture.

    Raises:
        UnreadableFileError: The file cannot be decoded.
        SetupError: The network predicts neither classes nor boxes.
    """
    data = load_sample(cfg, file)
    (sample,) = model.test_step(pseudo_collate([data]))
    sample = sample.cpu()
    if host_of(cfg) == 'mmaction':
        frames = frames_of(cfg, data)
        few = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames)))
        frames = frames[few.round().astype(int)]
    else:
        frames = [mmcv.imread(str(file), channel_order='rgb')]
    # in a config, the names may be the path of a list
    names = model.dataset_meta.get('classes')
    names = names if isinstance(names, (list, tuple)) else ()
    if 'pred_score' in sample:
        scores, labels = sample.pred_score.sort(descending=True)
        top = _records(names, labels[:TOP], score=scores[:TOP])
        return dict(top=top), draw_scores(frames, top)
    if 'pred_instances' not in sample:
        raise SetupError(
            f'{type(model).__name__} predicts neither classes nor boxes: use '
            "the host's own tools"
        )
    found = sample.pred_instances
    found = found[found.scores >= score_thr]
    boxes = found.bboxes.double().round(decimals=2)
    objects = _records(names, found.labels, score=found.scores, box=boxes)
    return dict(objects=objects), draw_objects(frames[0], objects, found)


def _records(names, labels: torch.Tensor, **values) -> list[dict]:
    """List labels with their names and values."""
    labels = labels.tolist()
    named = [str(names[i] if i < len(names) else i) for i in labels]
    columns = [column.tolist() for column in values.values()]
    keys = 'label', 'name', *values
    return [dict(zip(keys, row)) for row in zip(labels, named, *columns)]


def draw_scores(frames: list[np.ndarray], top: list[dict]) -> Figure:
    """Draw frames side by side, and bars of the best classes below.

    Args:
        frames (list[ndarray]): (H, W, 3) RGB, uint8.
        top (list[dict]): 'name' and 'score', best first.
    """
    width = max(4.5, 1.6 * len(frames))  # inches
    heights = width / len(frames) * len(frames[0]) / frames[0].shape[1], 1.9
    fig = Figure((width, sum(heights)), dpi=100, layout='constrained')
    above, below = fig.subfigures(2, 1, height_ratios=heights)
    row = above.subplots(1, len(frames), squeeze=False)[0]
    for axes, frame in zip(row, frames):
        axes.imshow(frame)
        axes.axis('off')
    axes = below.subplots()
    names = [shorten(drawable(entry['name']), 40) for entry in top]
    bars = axes.barh(range(len(top)), [entry['score'] for entry in top])
    axes.bar_label(bars, [f'{entry["score"]:.1%}' for entry in top], padding=3)
    axes.set_yticks(range(len(top)), names, parse_math=False)
    axes.set(xlim=(0, 1), xlabel='score')
    axes.invert_yaxis()
    return fig


def draw_objects(
    image: np.ndarray, objects: list[dict], found: InstanceData
) -> Figure:
    """Draw boxes with their labels above them, and masks if there are any.

    Args:
        image (ndarray): (H, W, 3) RGB, uint8.
        objects (list[dict]): 'label', 'name', 'score' and 'box'.
        found (InstanceData): The same objects, maybe with 'masks'.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    size = SIDE * width / longer, SIDE * height / longer
    fig = Figure(size, dpi=max(100, longer / SIDE))
    axes = fig.add_axes((0, 0, 1, 1))
    axes.axis('off')
    extent = (0, width, height, 0)
    axes.imshow(image, extent=extent)
    colors = [colormaps['tab10'](i % 10) for i in range(len(objects))]
    layer = np.zeros((height, width, 4))
    for mask, color in zip(np.asarray(found.get('masks', ()), bool), colors):
        layer[mask] = (*color[:3], 0.5)
    axes.imshow(layer, extent=extent)
    for entry, color in zip(objects, colors):
        left, top, right, bottom = entry['box']
        size = right - left, bottom - top
        axes.add_patch(Rectangle((left, top), *size, fill=False, ec=color))
        label = f'{drawable(entry["name"])}: {entry["score"]:.1%}'
        style = dict(color='w', fontsize=8, va='bottom', parse_math=False)
        behind = dict(facecolor=color, edgecolor='none', pad=1)
        axes.text(left, top, label, bbox=behind, **style)
    return fig
