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
    from torchvision.ops import sigmoid_focal_loss
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


def _focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> Tensor:
    classes = torch.arange(logits.size(1), device=logits.device)
    one_hot = (target[:, None] == classes).to(logits.dtype)
    loss = sigmoid_focal_loss(logits, one_hot, alpha, gamma)
    return loss * _full(weight)[target][:, None] if weight.numel() else loss


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, **settings
) -> None:
    """Focal loss of each entry into output.

    Args:
        input (Tensor): (N, C) logits.
        target (Tensor): (N,) int64 class; C and above are background.
        weight (Tensor): (C,) class weights, or empty.
        output (Tensor): (N, C), written.
        **settings: gamma, the exponent of the modulating factor, and alpha,
            the weight of the positive entries.
    """
    output.copy_(_focal_loss(_full(input), target, weight, **settings))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    **settings,
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` into grad_input."""
    logits = _full(input).requires_grad_()
    with torch.enable_grad():
        loss = _focal_loss(logits, target, weight, **settings).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


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
