"""One image or video through a host's own inference, for tools/infer.py."""

import copy
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader

TOP = 5  # classes in a record and in a picture
FRAMES = 8  # frames in the picture of a video
# of the picture of detections, in pixels
READABLE = 640  # small images are enlarged to about that
BAND, FONT = 24, 13


class Unreadable(Exception):
    """A file that is no image or video, or a broken one."""


def class_names(cfg, checkpoint: str) -> tuple[str, ...] | None:
    """Names of the classes: the checkpoint's, else those of the data set.

    Args:
        cfg (Config): The config.
        checkpoint (str): Path or URL.

    Returns:
        tuple[str, ...] | None: None if neither knows.
    """
    loaded = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', 'silent')
    meta = loaded.get('meta', {}).get('dataset_meta') or {}
    if not meta.get('classes'):
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        registry = import_module(f'{cfg.default_scope}.registry').DATASETS
        kind = registry.get(dataset.get('type', ''))
        meta = {
            **getattr(kind, 'METAINFO', {}),
            **(dataset.get('metainfo') or {}),
        }
    classes = meta.get('classes')
    # in a config, it may be the path of a list
    return tuple(classes) if isinstance(classes, (list, tuple)) else None


class _Predictor:
    """Predicts for one file at a time.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        classes (tuple[str, ...] | None): Names of its classes.
        score_thr (float): Lowest score of a detection that counts.
    """

    def __init__(self, model, cfg, classes, score_thr: float) -> None:
        self.model = model
        self.cfg = cfg
        self.classes = classes
        self.score_thr = score_thr
        model.cfg = cfg  # where the hosts look for it
        init_default_scope(cfg.default_scope)  # for their pipelines
        self.prepare()

    def prepare(self) -> None:
        """What is done once."""

    def __call__(self, file: Path, picture: Path | None) -> dict:
        """Predict for a file.

        Args:
            file (Path): Image or video.
            picture (Path | None): PNG to write.

        Returns:
            dict: 'summary' (one line) and what JSON shall hold.

        Raises:
            Unreadable: The file cannot be decoded.
        """
        with torch.no_grad():
            return self.predict(file, picture)

    def name(self, label: int) -> str:
        if self.classes is None or label >= len(self.classes):
            return str(label)
        return str(self.classes[label])

    def best(self, scores: torch.Tensor) -> list[dict]:
        """The classes with the highest scores, (classes,), best first."""
        values, labels = scores.cpu().topk(min(TOP, len(scores)))
        return [
            dict(label=label, name=self.name(label), score=value)
            for value, label in zip(values.tolist(), labels.tolist())
        ]

    def classified(self, scores, frames, picture) -> dict:
        """Record and picture of an image or a video."""
        top = self.best(scores)
        if picture is not None:
            draw_scores(frames, top, picture)
        first = top[0]
        return dict(summary=f'{first["name"]} ({first["score"]:.1%})', top=top)


class Classifier(_Predictor):
    """mmpretrain, by its ImageClassificationInferencer."""

    def prepare(self) -> None:
        from mmpretrain import ImageClassificationInferencer

        self.model._config = self.cfg
        self.inferencer = ImageClassificationInferencer(
            self.model, pretrained=False
        )

    def predict(self, file: Path, picture: Path | None) -> dict:
        image = read_image(file)
        # its parts: the whole draws a progress bar for each file
        (batch,) = self.inferencer.preprocess([image])
        (sample,) = self.inferencer.forward(batch)
        rgb = image[..., ::-1]
        return self.classified(sample.pred_score, [rgb], picture)


class Recogniser(_Predictor):
    """mmaction2, by its inference_recognizer.

    Its inferencer would replace ten clips of three crops by one, take Decord
    alone, and draw with a package that mmaction2 does not require.
    """

    def prepare(self) -> None:
        self.pipeline = Compose(self.cfg.test_dataloader.dataset.pipeline)

    def predict(self, file: Path, picture: Path | None) -> dict:
        from mmaction.apis import inference_recognizer

        from cgnl_mm.errors import SetupError

        data = dict(
            filename=str(file), label=-1, start_index=0, modality='RGB'
        )
        try:
            data = self.pipeline(data)
        except SetupError:  # no decoder is installed
            raise
        except Exception as error:  # each decoder has its own
            raise Unreadable(describe(error)) from error
        sample = inference_recognizer(self.model, data, Compose([]))
        frames = frames_of(data['inputs'])
        return self.classified(sample.pred_score, frames, picture)


class Detector(_Predictor):
    """mmdet, by its inference_detector and its visualiser."""

    def prepare(self) -> None:
        # without a storage of its own it says so, and we want none
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.visualizer = labels_above()()
        self.visualizer.dataset_meta = dict(
            classes=[self.name(i) for i in range(self.number_of_classes())]
        )

    def number_of_classes(self) -> int:
        if self.classes is not None:
            return len(self.classes)
        heads = [getattr(m, 'num_classes', 0) for m in self.model.modules()]
        return max(h for h in heads if isinstance(h, int))

    def predict(self, file: Path, picture: Path | None) -> dict:
        from mmdet.apis import inference_detector

        image = read_image(file)
        sample = inference_detector(self.model, image).cpu()
        found = sample.pred_instances
        found = found[found.scores >= self.score_thr]
        if picture is not None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            sample.pred_instances = found
            shown, drawn = enlarged(image[..., ::-1], sample)
            self.visualizer.add_datasample(
                file.name,
                shown,
                drawn,
                draw_gt=False,
                pred_score_thr=self.score_thr,
                out_file=str(picture),
            )
        objects = [
            dict(
                label=label,
                name=self.name(label),
                score=score,
                box=[round(value, 2) for value in box],
            )
            for label, score, box in zip(
                found.labels.tolist(),
                found.scores.tolist(),
                found.bboxes.tolist(),
            )
        ]
        return dict(summary=f'{len(objects)} objects', objects=objects)


def labels_above():
    """mmdet's visualiser, with labels above the boxes, not in them."""
    from mmdet.visualization import DetLocalVisualizer

    class LabelsAbove(DetLocalVisualizer):
        def draw_texts(self, texts, positions, font_sizes=None, **style):
            wide = len(str(texts)) * 0.7 * FONT  # about
            x, y = np.asarray(positions, dtype=float).reshape(2)
            x = max(0.0, min(x, self.width - wide))
            return super().draw_texts(
                texts,
                np.array([x, y - 4]),
                font_sizes=FONT,  # theirs shrinks with the object
                **{**style, 'vertical_alignments': 'bottom'},
            )

    return LabelsAbove


def enlarged(image: np.ndarray, sample) -> tuple:
    """A small image and what was found in it, large enough for labels.

    Args:
        image (ndarray): (H, W, 3).
        sample (DetDataSample): With boxes and, of some networks, masks.

    Returns:
        tuple[ndarray, DetDataSample]: Copies, enlarged by a whole number. A
        white band is above where a label would be cut off.
    """
    factor = max(1, round(READABLE / max(image.shape[:2])))
    drawn = copy.deepcopy(sample)  # clone() shares the instances
    found = drawn.pred_instances
    boxes = found.bboxes * factor
    near_the_top = len(boxes) and bool(boxes[:, 1].min() < BAND)
    band = BAND if near_the_top else 0
    found.bboxes = boxes + boxes.new_tensor([0, band, 0, band])
    if 'masks' in found:
        masks = np.asarray(found.masks)
        masks = masks.repeat(factor, 1).repeat(factor, 2)
        found.masks = np.pad(masks, ((0, 0), (band, 0), (0, 0)))
    pixels = image.repeat(factor, 0).repeat(factor, 1)
    pixels = np.pad(pixels, ((band, 0), (0, 0), (0, 0)), constant_values=255)
    return pixels, drawn


PREDICTORS = dict(mmpretrain=Classifier, mmaction=Recogniser, mmdet=Detector)


def read_image(file: Path) -> np.ndarray:
    """Decode an image to (H, W, 3) BGR, uint8.

    Raises:
        Unreadable: It cannot be decoded.
    """
    import mmcv

    try:
        image = mmcv.imread(str(file))
    except Exception as error:  # OpenCV's, for an empty file
        raise Unreadable(describe(error)) from error
    if image is None:
        raise Unreadable('not an image, or a broken one')
    return image


def describe(error: Exception) -> str:
    """One line: decoders write several."""
    return ' '.join(f'{type(error).__name__}: {error}'.split())


def frames_of(views: torch.Tensor) -> list[np.ndarray]:
    """Some frames of the first view, as the network sees them.

    Args:
        views (Tensor): (views, 3, T, H, W), or (frames, 3, H, W).

    Returns:
        list[ndarray]: (H, W, 3) RGB, uint8.
    """
    frames = views[0].transpose(0, 1) if views.dim() == 5 else views
    count = min(FRAMES, len(frames))
    chosen = torch.linspace(0, len(frames) - 1, count).round().long()
    return list(frames[chosen].permute(0, 2, 3, 1).byte().numpy())


def draw_scores(frames: list[np.ndarray], top: list[dict], out: Path) -> None:
    """Draw frames side by side, and bars of the best classes below.

    Args:
        frames (list[ndarray]): (H, W, 3) RGB, uint8.
        top (list[dict]): 'name' and 'score', best first.
        out (Path): The PNG.
    """
    import matplotlib

    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt

    # inches
    width = max(4.5, 1.6 * len(frames))
    heights = width / len(frames) * len(frames[0]) / frames[0].shape[1], 1.9
    fig = plt.figure(figsize=(width, sum(heights)), layout='constrained')
    above, below = fig.subfigures(2, 1, height_ratios=heights)
    row = above.subplots(1, len(frames), squeeze=False)[0]
    for axes, frame in zip(row, frames):
        axes.imshow(frame)
        axes.axis('off')
    axes = below.subplots()
    places = range(len(top))
    bars = axes.barh(places, [entry['score'] for entry in top])
    axes.bar_label(bars, [f'{entry["score"]:.1%}' for entry in top], padding=3)
    axes.set_yticks(places, [entry['name'] for entry in top])
    axes.set(xlim=(0, 1), xlabel='score')
    axes.invert_yaxis()
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(out, dpi=100)
    plt.close(fig)
