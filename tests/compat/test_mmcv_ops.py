"""Check mmcv.ops against torchvision and a plain NMS.

They run on the stand-in, or on a compiled mmcv where one is installed.
"""

import importlib.util
import pkgutil

import pytest
import torch
import torchvision
from torch.testing import assert_close

from cgnl_mm import compat

compat.apply()
pytest.importorskip('mmcv')
from mmcv import ops  # noqa: E402

DEVICES = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])


def make_boxes(n, device='cpu'):
    corner = torch.rand(n, 2) * 50
    size = torch.rand(n, 2) * 30 + 1
    return torch.cat([corner, corner + size], 1).to(device)


def greedy_nms(boxes, scores, threshold, offset):
    """Suppress by the definition, in float64."""
    low, high = boxes.double().split(2, 1)
    areas = (high - low + offset).prod(1)
    sides = torch.minimum(high[:, None], high) + offset
    sides = (sides - torch.maximum(low[:, None], low)).clamp(min=0)
    overlap = sides.prod(2)
    iou = overlap / (areas[:, None] + areas - overlap)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if (iou[i, kept] <= threshold).all():
            kept.append(i)
    return kept


@pytest.mark.pairs(
    {'device': DEVICES, 'offset': [0, 1], 'threshold': [0.1, 0.5, 0.8]}
)
def test_nms(device, offset, threshold):
    torch.manual_seed(0)
    boxes, scores = make_boxes(60, device), torch.rand(60, device=device)
    if offset:
        # small boxes, whose IoU depends most on the offset
        boxes = boxes / 8
    dets, index = ops.nms(boxes, scores, threshold, offset=offset)
    assert index.tolist() == greedy_nms(boxes, scores, threshold, offset)
    assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[index])


def test_nms_of_nothing_and_of_half(needs):
    needs('mmcv_ops')  # the compiled one takes no half on a CPU
    empty = ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert empty[0].shape == (0, 5) and empty[1].dtype == torch.int64
    torch.manual_seed(0)
    boxes, scores = make_boxes(40).half(), torch.rand(40).half()
    _, index = ops.nms(boxes, scores, 0.5)
    wanted = ops.nms(boxes.float(), scores.float(), 0.5)[1]
    assert index.tolist() == wanted.tolist()


@pytest.mark.pairs(
    {
        'device': DEVICES,
        'aligned': [True, False],
        'ratio': [0, 2],
        'scale': [1.0, 0.5],
    }
)
def test_roi_align(device, aligned, ratio, scale):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 11, device=device, requires_grad=True)
    rois = torch.tensor(
        [
            [0, 1.3, 2.2, 7.1, 8.8],
            [1, -3.0, -2.0, 5.5, 20.0],
            [1, 60.0, 60.0, 70.0, 70.0],
            [1, 4.0, 4.0, 4.0, 4.0],
        ],
        device=device,
    )
    y = ops.roi_align(x, rois, (3, 2), scale, ratio, 'avg', aligned)
    grad = torch.randn_like(y)
    (mine,) = torch.autograd.grad(y, x, grad)
    same = torchvision.ops.roi_align(x, rois, (3, 2), scale, ratio, aligned)
    (wanted,) = torch.autograd.grad(same, x, grad)
    assert torch.equal(y, same)
    assert_close(mine, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_reduced_precision(dtype, needs):
    """As mmdet calls it under autocast: rounded once, both ways."""
    needs('mmcv_ops')
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8).to(dtype).requires_grad_()
    rois = torch.tensor([[0, 1.0, 1.0, 6.5, 6.0]], dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16):
        y = ops.roi_align(x, rois, 3, 1.0, 2)
    grad = torch.randn(y.shape).to(dtype)
    y.backward(grad)

    full = x.detach().float().requires_grad_()
    wanted = torchvision.ops.roi_align(full, rois.float(), 3, 1.0, 2, True)
    wanted.backward(grad.float())
    assert torch.equal(y, wanted.to(dtype))
    assert torch.equal(x.grad, full.grad.to(dtype))


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(weighted):
    if compat.mmcv_ops.not_needed() and not torch.cuda.is_available():
        pytest.skip('a compiled mmcv has this operator for the GPU only')
    torch.manual_seed(0)
    logits = (torch.randn(9, 4, dtype=torch.float64) * 4).requires_grad_()
    target = torch.randint(0, 4 if weighted else 5, (9,))
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    loss = ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'none')

    one_hot = torch.nn.functional.one_hot(target, 5)[:, :4].double()
    wanted = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, 2.0)
    if weighted:
        wanted = wanted * weight[target][:, None]
    assert_close(loss, wanted)
    torch.autograd.gradcheck(
        lambda x: ops.sigmoid_focal_loss(x, target, 1.5, 0.3, weight, 'mean'),
        logits,
    )


def test_missing_operator_tells_how_to_get_it(needs):
    needs('mmcv_ops')
    boxes, scores = make_boxes(3), torch.rand(3)
    with pytest.raises(NotImplementedError, match='softnms') as error:
        ops.soft_nms(boxes, scores)
    assert '--no-build-isolation mmcv==2.' in str(error.value)
    assert 'setuptools<81' in str(error.value)
    rois = torch.tensor([[0, 0.0, 0, 3, 3]])
    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        ops.roi_align(torch.rand(1, 1, 4, 4), rois, 2, 1.0, 0, 'max')


def test_module_is_found_as_any_other():
    import mmcv
    from mmengine.utils.dl_utils import mmcv_full_available

    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext' == mmcv._ext.__name__
    assert spec.loader is not None and mmcv._ext.__spec__ is not None
    if hasattr(pkgutil, 'find_loader'):
        assert pkgutil.find_loader('mmcv._ext') is not None
        assert mmcv_full_available()
    assert isinstance(ops.get_compiler_version(), str)
    assert isinstance(ops.get_compiling_cuda_version(), str)


def test_a_compiled_module_wins(python, tmp_path):
    """A real ``_ext`` beside mmcv's files is the one that is loaded."""
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (package / f'_ext{suffix}').write_bytes(b'')
    code = (
        'import importlib.util\n'
        'from cgnl_mm.compat import mmcv_ops\n'
        'print(mmcv_ops.not_needed())\n'
        'mmcv_ops.apply()\n'
        'print(importlib.util.find_spec("mmcv._ext").origin)\n'
    )
    # -S would lose torch: the folder goes first on the path instead
    said = python('-c', STUB + code, off='', path=tmp_path)
    assert 'this mmcv is compiled' in said
    assert str(package) in said


# cgnl_mm without its __init__, which would import the stubbed mmcv
STUB = (
    'import sys, types, importlib.util as u\n'
    'p = types.ModuleType("cgnl_mm")\n'
    'p.__path__ = u.find_spec("cgnl_mm").submodule_search_locations\n'
    'sys.modules["cgnl_mm"] = p\n'
)
