"""``mmcv._ext`` over torchvision's operators, for CPU and GPU.

The functions have the names and arguments that ``mmcv/ops/*.py`` calls,
and write their results into the tensors given. float16 and bfloat16 are
computed in float32 and rounded once.

What mmcv has and torchvision has not raises NotImplementedError when it is
called, not when it is imported.
"""

from operator import itemgetter

import torch
from torch import Tensor

try:
    import torchvision
    from torchvision.extension import _has_ops
except (ImportError, RuntimeError) as error:
    raise ImportError(
        "mmcv's operators run on torchvision's here, and torchvision does "
        f'not import ({error}). Install the torchvision that belongs to '
        f'torch {torch.__version__}'
    ) from error
if not _has_ops():
    raise ImportError(
        f'torchvision {torchvision.__version__} cannot load its operators '
        f'with torch {torch.__version__}: install a matched pair of one '
        'source (both from PyPI, or both from the same PyTorch index)'
    )

_ops = torch.ops.torchvision
_REDUCED = (torch.float16, torch.bfloat16)
# mmcv's names of settings, in the order of torchvision's arguments
_roi_settings = itemgetter('spatial_scale', 'aligned_height', 'aligned_width')


def get_compiler_version() -> str:
    """Answer for ``mmcv.ops.get_compiler_version``."""
    return 'none (cgnl_mm: torchvision operators)'


def get_compiling_cuda_version() -> str:
    """Answer for ``mmcv.ops.get_compiling_cuda_version``."""
    return 'not available'


def _full(tensor: Tensor) -> Tensor:
    """Return at least float32, contiguous, outside of any graph."""
    tensor = tensor.detach().contiguous()
    return tensor.float() if tensor.dtype in _REDUCED else tensor


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2.
        scores (Tensor): (N,).
        iou_threshold (float): A box goes when its IoU with a better one is
            larger.
        offset (int): 0, or 1 for boxes whose width is x2 - x1 + 1.

    Returns:
        Tensor: (K,) int64, indices of the boxes kept, best first.
    """
    boxes, scores = _full(boxes), _full(scores).to(boxes.device)
    if offset:
        # IoU only knows widths, heights and overlaps: all grow by offset
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return _ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def _only_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise _missing(
            "roi_align with pool_mode='max'", "use pool_mode='avg', or "
        )


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    *argmax: Tensor,
    **settings,
) -> None:
    """RoIAlign of input (B, C, H, W) and rois (K, 5) into output.

    The settings have mmcv's names: aligned_height, aligned_width,
    spatial_scale, sampling_ratio, pool_mode, aligned.
    """
    _only_average(settings['pool_mode'])
    input = _full(input)
    output.copy_(
        _ops.roi_align(
            input,
            _full(rois).to(input.dtype),
            *_roi_settings(settings),
            settings['sampling_ratio'],
            settings['aligned'],
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **settings,
) -> None:
    """Gradient of :func:`roi_align_forward` into grad_input."""
    _only_average(settings['pool_mode'])
    grad_output = _full(grad_output)
    grad_input.copy_(
        _ops._roi_align_backward(
            grad_output,
            _full(rois).to(grad_output.dtype),
            *_roi_settings(settings),
            *grad_input.shape,
            settings['sampling_ratio'],
            settings['aligned'],
        )
    )


def roi_pool_forward(*args, **kwargs) -> None:
    """Raise: torchvision's rounds boxes to whole cells, mmcv's does not."""
    raise _missing(
        'roi_pool (torchvision has one, with another rounding of the boxes)',
        'use RoIAlign, or ',
    )


roi_pool_backward = roi_pool_forward


def _focal(input: Tensor, target: Tensor, weight: Tensor):
    """Compute what both directions of the sigmoid focal loss start from.

    Returns:
        tuple[Tensor]: (N, C) each: probability p and its complement q, both
            with their logarithms, whether the class is the target, and the
            (N, 1) class weight or 1.
    """
    p = _full(input).sigmoid()
    q = 1 - p
    tiny = torch.finfo(torch.float32).tiny
    classes = torch.arange(input.size(1), device=input.device)
    factor = _full(weight)[target][:, None] if weight.numel() else 1
    log_p, log_q = (x.clamp(min=tiny).log() for x in (p, q))
    return p, log_p, q, log_q, target[:, None] == classes, factor


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of each entry into output.

    Args:
        input (Tensor): (N, C) logits.
        target (Tensor): (N,) int64 class; C and above are background.
        weight (Tensor): (C,) class weights, or empty.
        output (Tensor): (N, C), written.
        gamma (float): Exponent of the modulating factor.
        alpha (float): Weight of the positive entries.
    """
    p, log_p, q, log_q, positive, factor = _focal(input, target, weight)
    loss = torch.where(
        positive,
        -alpha * q**gamma * log_p,
        -(1 - alpha) * p**gamma * log_q,
    )
    output.copy_(loss * factor)


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` into grad_input."""
    p, log_p, q, log_q, positive, factor = _focal(input, target, weight)
    grad = torch.where(
        positive,
        -alpha * q**gamma * (q - gamma * p * log_p),
        -(1 - alpha) * p**gamma * (gamma * q * log_q - p),
    )
    grad_input.copy_(grad * factor)


def _missing(operator: str, instead: str = '') -> NotImplementedError:
    """Return an error that tells how to get a compiled mmcv."""
    import mmcv  # it imports this module

    return NotImplementedError(
        f"mmcv's operator {operator} is compiled code, and the installed "
        'mmcv has none; cgnl_mm only brings those that torchvision has. '
        f'To get it, {instead}compile mmcv (about half an hour on 2 cores; '
        'the GPU operators need the CUDA toolkit):\n'
        '    pip uninstall -y mmcv-lite\n'
        "    pip install 'setuptools<81' wheel ninja psutil\n"
        f'    pip install --no-build-isolation mmcv=={mmcv.__version__}'
    )


def __getattr__(name: str):
    """Give every other operator of mmcv: it raises when it is called.

    mmcv asks for all of its operators' names when ``mmcv.ops`` is imported.
    """
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def operator(*args, **kwargs):
        raise _missing(name)

    operator.__name__ = operator.__qualname__ = name
    return operator
