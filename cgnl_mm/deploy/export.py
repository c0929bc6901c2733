"""A config's network as one function of pixels, written to a file."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import SetupError, describe_error
from ..files import whole_files
from ..hosts import host_of
from ..insertion.frames import takes_frames
from ..ops.torch_versions import TORCH
from .model import as_views, build_model, input_shape, random_pixels

TOLERANCE = 1e-4
TRACED, CHECKED = 2, (1, 3)  # batch sizes
ONNX = ('onnx', 'onnxscript', 'onnxruntime')
# flags of the hosts' preprocessors: they swap red and blue
SWAPS = ('to_rgb', 'channel_conversion', '_channel_conversion')


def export(
    cfg, checkpoint: str, out: Path, shape: list[int] | None = None
) -> None:
    """Write a network to a file, compare the two and say what was written.

    Of a classifier or a recogniser, the file has the whole network; of a
    detector or a segmenter, the backbone: MMDeploy exports what lies behind.

    Args:
        cfg (Config): Config of the network.
        checkpoint (str): Path or URL; 'none' for fresh weights.
        out (Path): The file; '.onnx' or '.pt2' (torch.export) is its format.
        shape (list[int] | None): (H, W) or (T, H, W); None for that of the
            config's test pipeline.

    Raises:
        SetupError: The format cannot be written here, or the file computes
            something else than the network; then nothing is written.
    """
    check_format(out)
    model = build_model(cfg, None if checkpoint == 'none' else checkpoint)
    shape = input_shape(cfg, shape)
    # a file that was not checked must not look like one that was
    with whole_files(out.parent) as folder, Progress(transient=True) as bar:
        bar.add_task('export, then comparison', total=None)
        draft = folder / out.name
        try:
            network = Exported(model, host_of(cfg)).eval()
            write(network, random_pixels(shape, TRACED), draft)
        except Exception as error:  # torch.export has many
            raise SetupError(
                f'{cfg.filename} cannot be exported: {describe_error(error)}'
            ) from error
        difference = largest_difference(network, load(draft), shape)
        if not difference <= TOLERANCE:
            raise SetupError(
                f'the exported network differs from the original by '
                f'{difference:.2g} (allowed {TOLERANCE:g}); nothing was '
                'written'
            )
    size = ', '.join(map(str, ('batch', 3, *shape)))
    what = 'scores' if network.has_scores else 'feature maps'
    print(f'{out}: {what} of {cfg.filename}, pixels ({size})')
    print(f'largest difference: {difference:.2g} (allowed {TOLERANCE:g})')
    if checkpoint == 'none':
        print('fresh weights: the blocks are not trained')


def check_format(out: Path) -> None:
    """Raise SetupError for a format that cannot be written here."""
    if out.suffix not in ('.onnx', '.pt2'):
        raise SetupError(
            f'--out {out}: the name ends in .onnx, or in .pt2 (torch.export)'
        )
    if TORCH < (2, 6):
        raise SetupError(
            f'exporting needs torch >= 2.6, this is {torch.__version__}'
        )
    missing = [name for name in ONNX if not importlib.util.find_spec(name)]
    if out.suffix == '.onnx' and missing:
        raise SetupError(
            f'{", ".join(missing)} not installed, which .onnx needs: run '
            f'`pip install {" ".join(ONNX)}`, or write .pt2'
        )


class Exported(nn.Module):
    """A network as a function of one tensor.

    Args:
        model (Module): Network of a host, in evaluation mode.
        host (str): The host.
    """

    def __init__(self, model: nn.Module, host: str) -> None:
        super().__init__()
        self.is_recogniser = host == 'mmaction'
        self.has_scores = self.is_recogniser or host == 'mmpretrain'
        self.network = model if self.has_scores else model.backbone
        self.takes_frames = takes_frames(type(model))
        self.preprocessor = Normalise(model.data_preprocessor, host)

    def forward(self, pixels: Tensor):
        """Compute scores (B, classes), or a tuple of feature maps.

        Args:
            pixels (Tensor): (B, 3, H, W) or (B, 3, T, H, W).
        """
        x = self.preprocessor(pixels)
        if not self.has_scores:
            maps = self.network(x)
            return maps if isinstance(maps, (tuple, list)) else (maps,)
        options = {}
        if self.is_recogniser:
            x = as_views(x, self.takes_frames)
            options = dict(stage='head')
        return self.network(x, mode='tensor', **options).softmax(-1)


class Normalise(nn.Module):
    """Do to RGB values what a host's data preprocessor does.

    mmaction decodes to RGB, the other hosts to BGR, and each has its flag
    that swaps the channels before ``mean`` and ``std``.
    """

    def __init__(self, preprocessor: nn.Module, host: str) -> None:
        super().__init__()
        swaps = any(getattr(preprocessor, flag, False) for flag in SWAPS)
        self.to_bgr = swaps == (host == 'mmaction')
        shape = (3, 1, 1, 1) if host == 'mmaction' else (3, 1, 1)
        for name, default in dict(mean=0.0, std=1.0).items():
            value = getattr(preprocessor, name, torch.full((3,), default))
            self.register_buffer(name, value.detach().float().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.to_bgr:
            x = x.flip(1)
        return (x - self.mean) / self.std


@torch.no_grad()
def write(network: Exported, example: Tensor, out: Path) -> None:
    """Write a network, its batch size left open.

    Args:
        network (Exported): In evaluation mode.
        example (Tensor): A batch of pixels.
        out (Path): The file.
    """
    dynamic = dict(pixels={0: torch.export.Dim('batch')})
    program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
    if out.suffix == '.pt2':
        torch.export.save(program, out)
        return
    names = ['scores']
    if not network.has_scores:
        names = [f'features_{i}' for i in range(len(network(example)))]
    options = dict(input_names=['pixels'], output_names=names, verbose=False)
    program = torch.onnx.export(program, dynamo=True, **options)
    program.save(str(out), external_data=False)


def load(out: Path) -> Callable[[Tensor], list[Tensor]]:
    """Read an exported file back, as a function of pixels."""
    if out.suffix == '.pt2':
        function = torch.export.load(out).module()
        return lambda x: tree_leaves(function(x))
    import onnxruntime  # an optional dependency

    providers = ['CPUExecutionProvider']
    session = onnxruntime.InferenceSession(str(out), providers=providers)
    return lambda x: list(
        map(torch.from_numpy, session.run(None, dict(pixels=x.numpy())))
    )


@torch.no_grad()
def largest_difference(
    network: Exported, loaded: Callable, shape: tuple[int, ...]
) -> float:
    """Return the largest difference of a network from its exported form.

    The difference is relative where values are larger than 1.

    Args:
        network (Exported): In evaluation mode.
        loaded (Callable): What :func:`load` returned.
        shape (tuple[int, ...]): (H, W) or (T, H, W).
    """
    worst = torch.zeros(())
    for batch in CHECKED:
        pixels = random_pixels(shape, batch, seed=batch)
        expected = tree_leaves(network(pixels))
        for got, want in zip(loaded(pixels), expected, strict=True):
            if got.shape != want.shape:
                return float('inf')
            difference = (got - want).abs() / want.abs().clamp(min=1)
            # not max(), which would lose a NaN
            worst = torch.maximum(worst, difference.max())
    return worst.item()
