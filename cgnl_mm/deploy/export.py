"""A config's network as one function of pixels, written to a file."""

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import SetupError
from ..hosts import host_of
from ..ops.torch_versions import TORCH
from .model import (
    as_views,
    build_model,
    input_shape,
    random_pixels,
    takes_frames,
)

TOLERANCE = 1e-4
TRACED, CHECKED = 2, (1, 3)  # batch sizes
SUFFIXES = dict(onnx='.onnx', torch_export='.pt2', torchscript='.pt')
ONNX = ('onnx', 'onnxscript', 'onnxruntime')
# flags of the hosts' preprocessors: they swap red and blue
SWAPS = ('to_rgb', 'channel_conversion', '_channel_conversion')


def export(
    cfg,
    checkpoint: str,
    out: Path,
    form: str = 'onnx',
    part: str | None = None,
    shape: list[int] | None = None,
    normalised: bool = False,
    opset: int | None = None,
) -> None:
    """Write a network to a file, compare the two and say what was written.

    Args:
        cfg (Config): Config of the network.
        checkpoint (str): Path or URL; 'none' for fresh weights.
        out (Path): The file.
        form (str): 'onnx', 'torch_export' or 'torchscript'.
        part (str | None): 'model', 'backbone', or None for 'model' where
            that is possible.
        shape (list[int] | None): (H, W) or (T, H, W); None for that of the
            config's test pipeline.
        normalised (bool): Whether the caller normalises the pixels.
        opset (int | None): ONNX operator set; None for PyTorch's default.

    Raises:
        SetupError: An option does not fit, or the file computes something
            else than the network; then nothing is written.
    """
    check_form(form, out, opset)
    model = build_model(cfg, None if checkpoint == 'none' else checkpoint)
    has_scores = host_of(cfg) in ('mmpretrain', 'mmaction')
    if part == 'model' and not has_scores:
        raise SetupError(
            '--part model: a whole detector or segmenter is exported by '
            'MMDeploy; --part backbone is possible here'
        )
    part = part or ('model' if has_scores else 'backbone')
    shape = input_shape(cfg, shape)
    network = Exported(model, cfg, part, normalised).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    # a file that was not checked must not look like one that was
    draft = out.with_name(f'unchecked-{os.getpid()}-{out.name}')
    try:
        with warnings.catch_warnings():
            # PyTorch warns of torch.jit itself; and of sizes that tracing
            # fixes, where the check at other batch sizes sees more
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            warnings.filterwarnings('ignore', '`torch.jit')
            write(network, random_pixels(shape, TRACED), draft, form, opset)
            loaded = load(draft, form)
        difference = largest_difference(network, loaded, shape)
        if not difference <= TOLERANCE:
            raise SetupError(
                f'the exported network differs from the original by '
                f'{difference:.2g} (allowed {TOLERANCE:g}); nothing was '
                'written'
            )
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    size = ', '.join(map(str, ('batch', 3, *shape)))
    print(f'{out}: {part} of {cfg.filename}, pixels ({size})')
    print(f'largest difference: {difference:.2g} (allowed {TOLERANCE:g})')
    if checkpoint == 'none':
        print('fresh weights: the blocks are not trained')


def check_form(form: str, out: Path, opset: int | None) -> None:
    """Raise SetupError for a format that cannot be written here."""
    if opset is not None and form != 'onnx':
        raise SetupError(f'--opset is of ONNX, not of {form}')
    if out.suffix != SUFFIXES[form]:
        raise SetupError(
            f'--out {out}: a file of --format {form} ends in {SUFFIXES[form]}'
        )
    if form != 'torchscript' and TORCH < (2, 6):
        raise SetupError(
            f'--format {form} needs torch >= 2.6, this is '
            f'{torch.__version__}: update it, or use --format torchscript'
        )
    missing = [name for name in ONNX if not importlib.util.find_spec(name)]
    if form == 'onnx' and missing:
        raise SetupError(
            f'{", ".join(missing)} not installed, which --format onnx needs '
            f'to write and check: run `pip install {" ".join(ONNX)}`, or use '
            'another format'
        )


class Exported(nn.Module):
    """A network as a function of one tensor.

    Args:
        model (Module): Network of a host, in evaluation mode.
        cfg (Config): Its config.
        part (str): 'model' or 'backbone'.
        normalised (bool): Whether the input is normalised and in the
            network's channel order already.
    """

    def __init__(
        self, model: nn.Module, cfg, part: str, normalised: bool = False
    ) -> None:
        super().__init__()
        host = host_of(cfg)
        self.network = model if part == 'model' else model.backbone
        self.part, self.takes_frames = part, takes_frames(type(model))
        self.is_recogniser = host == 'mmaction'
        self.preprocessor = nn.Identity()
        if not normalised:
            self.preprocessor = Normalise(model.data_preprocessor, host)

    def forward(self, pixels: Tensor):
        """Compute scores (B, classes), or a tuple of feature maps.

        Args:
            pixels (Tensor): (B, 3, H, W) or (B, 3, T, H, W).
        """
        x = self.preprocessor(pixels)
        options = {}
        if self.is_recogniser:
            x = as_views(x, self.takes_frames)
            options = dict(stage='head')
        if self.part == 'model':
            return self.network(x, mode='tensor', **options).softmax(-1)
        features = self.network(x.flatten(0, 1) if self.is_recogniser else x)
        return features if isinstance(features, tuple) else (features,)


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
def write(
    network: Exported, example: Tensor, out: Path, form: str, opset=None
) -> None:
    """Write a network, its batch size left open.

    Args:
        network (Exported): In evaluation mode.
        example (Tensor): A batch of pixels.
        out (Path): The file.
        form (str): 'onnx', 'torch_export' or 'torchscript'.
        opset (int | None): ONNX operator set; None for PyTorch's default.

    Raises:
        SetupError: PyTorch cannot write that operator set.
    """
    if form == 'torchscript':
        torch.jit.save(torch.jit.trace(network, example), str(out))
        return
    dynamic = dict(pixels={0: torch.export.Dim('batch')})
    program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
    if form == 'torch_export':
        torch.export.save(program, out)
        return
    names = ['scores']
    if network.part == 'backbone':
        names = [f'features_{i}' for i in range(len(network(example)))]
    # its converter logs a traceback where it fails; the file tells, too
    logging.getLogger('onnxscript').setLevel(logging.CRITICAL)
    options = dict(dynamo=True, opset_version=opset, verbose=False)
    options.update(input_names=['pixels'], output_names=names)
    program = torch.onnx.export(program, **options)
    written = program.model.opset_imports['']
    if opset not in (None, written):
        raise SetupError(
            f'--opset {opset}: PyTorch {torch.__version__} cannot write this '
            f'network with it, only with {written}; nothing was written'
        )
    program.save(str(out), external_data=False)


def load(out: Path, form: str) -> Callable[[Tensor], list[Tensor]]:
    """Read an exported file back, as a function of pixels."""
    if form == 'onnx':
        import onnxruntime  # an optional dependency

        session = onnxruntime.InferenceSession(
            str(out), providers=['CPUExecutionProvider']
        )
        return lambda x: [
            torch.from_numpy(y)
            for y in session.run(None, dict(pixels=x.numpy()))
        ]
    if form == 'torch_export':
        function = torch.export.load(out).module()
    else:
        function = torch.jit.load(str(out))
    return lambda x: as_list(function(x))


def as_list(outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


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
        expected = as_list(network(pixels))
        for got, want in zip(loaded(pixels), expected, strict=True):
            if got.shape != want.shape:
                return float('inf')
            difference = (got - want).abs() / want.abs().clamp(min=1)
            # not max(), which would lose a NaN
            worst = torch.maximum(worst, difference.max())
    return worst.item()
