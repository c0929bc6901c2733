"""A config's network as one function, its exported forms, and their check."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from cgnl_mm.deploy.model import random_pixels

TRACED, CHECKED = 2, (1, 3)  # batch sizes


class Exported(nn.Module):
    """A network as a function of one tensor.

    Args:
        model (Module): Of a host, in evaluation mode.
        host (str): 'mmpretrain', 'mmaction' or 'mmdet'.
        part (str): 'model' or 'backbone'.
        rank (int): 2 for images, 3 for clips.
        normalised (bool): Whether the input is normalised and in the
            network's channel order already.
    """

    def __init__(
        self,
        model: nn.Module,
        host: str,
        part: str,
        rank: int,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.network = model if part == 'model' else model.backbone
        self.part = part
        self.is_recognizer = host == 'mmaction'
        self.preprocessor = None
        if not normalised:
            self.preprocessor = Normalise(model.data_preprocessor, host, rank)

    def forward(self, pixels: Tensor):
        """Scores (B, classes), or a tuple of feature maps.

        Args:
            pixels (Tensor): (B, 3, H, W) or (B, 3, T, H, W).
        """
        x = pixels
        if self.preprocessor is not None:
            x = self.preprocessor(x)
        if self.part == 'backbone':
            features = self.network(x)
            return features if isinstance(features, tuple) else (features,)
        if self.is_recognizer:
            # one view of each clip
            scores = self.network(x[:, None], mode='tensor', stage='head')
        else:
            scores = self.network(x, mode='tensor')
        return scores.softmax(-1)


class Normalise(nn.Module):
    """What a host's data preprocessor does to RGB values.

    mmpretrain and mmdet decode to BGR, mmaction to RGB, and each has its flag
    that turns the channels round before ``mean`` and ``std``.
    """

    def __init__(self, preprocessor: nn.Module, host: str, rank: int) -> None:
        super().__init__()
        mean = getattr(preprocessor, 'mean', None)
        std = getattr(preprocessor, 'std', None)
        turned = {
            'mmpretrain': getattr(preprocessor, 'to_rgb', False),
            'mmaction': getattr(preprocessor, 'to_rgb', False),
            'mmdet': getattr(preprocessor, '_channel_conversion', False),
        }[host]
        self.to_bgr = bool(turned) == (host == 'mmaction')
        shape = (1, 3, *(1,) * rank)
        for name, value, default in (('mean', mean, 0), ('std', std, 1)):
            if value is None:
                value = torch.full((3,), float(default))
            self.register_buffer(name, value.detach().float().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.to_bgr:
            x = x.flip(1)
        return (x - self.mean) / self.std


def export_onnx(network, example: Tensor, out: Path, opset) -> None:
    """Write ``out`` through torch.export, the batch size left open."""
    torch.onnx.export(
        network,
        (example,),
        str(out),
        input_names=['pixels'],
        output_names=output_names(network, example),
        dynamic_shapes=dict(pixels={0: torch.export.Dim('batch')}),
        opset_version=opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def export_torch(network, example: Tensor, out: Path, opset) -> None:
    """Write ``out`` by torch.export, the batch size left open."""
    program = torch.export.export(
        network,
        (example,),
        dynamic_shapes=dict(pixels={0: torch.export.Dim('batch')}),
    )
    torch.export.save(program, out)


def export_torchscript(network, example: Tensor, out: Path, opset) -> None:
    """Write ``out`` by torch.jit.trace, which leaves all sizes open."""
    with warnings.catch_warnings():
        # that shapes are compared; the file is checked at other batch sizes
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        traced = torch.jit.trace(network, example)
    torch.jit.save(traced, str(out))


EXPORTERS = dict(
    onnx=export_onnx,
    torch_export=export_torch,
    torchscript=export_torchscript,
)


def output_names(network: Exported, example: Tensor) -> list[str]:
    if network.part == 'model':
        return ['scores']
    with torch.no_grad():
        return [f'features_{i}' for i in range(len(network(example)))]


def load(out: Path, kind: str):
    """Read an exported file back.

    Returns:
        Callable: From a tensor to a list of tensors.
    """
    if kind == 'onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(out), providers=['CPUExecutionProvider']
        )
        return lambda x: [
            torch.from_numpy(y)
            for y in session.run(None, dict(pixels=x.numpy()))
        ]
    if kind == 'torch_export':
        function = torch.export.load(out).module()
    else:
        function = torch.jit.load(str(out))
    return lambda x: as_list(function(x))


def as_list(outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def largest_difference(network, loaded, shape: tuple[int, ...]) -> float:
    """Largest difference between a network and its exported form.

    Relative where values are larger than 1.

    Args:
        network (Exported): In evaluation mode.
        loaded (Callable): What :func:`load` returned.
        shape (tuple[int, ...]): (H, W) or (T, H, W).
    """
    worst = torch.zeros(())
    for batch in CHECKED:
        pixels = random_pixels(shape, batch, seed=batch)
        with torch.no_grad():
            expected = as_list(network(pixels))
            ours = loaded(pixels)
        for got, want in zip(ours, expected, strict=True):
            if got.shape != want.shape:
                return float('inf')
            difference = (got - want).abs() / want.abs().clamp(min=1)
            # not max(), which would lose a NaN
            worst = torch.maximum(worst, difference.max())
    return worst.item()
