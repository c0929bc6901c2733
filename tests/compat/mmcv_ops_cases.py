"""Run mmcv's operators on fixed inputs and save the results.

    python mmcv_ops_cases.py OUT.pt [--stand-in]

With ``--stand-in``, on torchvision's operators even if mmcv is compiled.
"""

import importlib.util
import itertools
import sys

import torch


def load_stand_in():
    from cgnl_mm.compat.finder import STAND_INS, StandInFinder

    finder = StandInFinder('mmcv._ext', STAND_INS / 'mmcv_ext.py')
    spec = finder.find_spec('mmcv._ext')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules['mmcv._ext'] = module


def make_boxes(n=200):
    corner = torch.rand(n, 2) * 50
    return torch.cat([corner, corner + torch.rand(n, 2) * 30 + 1], 1)


def nms_cases():
    from mmcv.ops import batched_nms, nms

    boxes, scores = make_boxes(), torch.rand(200)
    for offset, threshold, score, limit in itertools.product(
        (0, 1), (0.3, 0.7), (0, 0.4), (-1, 7)
    ):
        dets, index = nms(boxes, scores, threshold, offset, score, limit)
        yield f'nms {offset} {threshold} {score} {limit}', (dets, index)
    yield (
        'batched_nms',
        batched_nms(
            boxes,
            scores,
            torch.arange(200) % 3,
            dict(type='nms', iou_threshold=0.5),
        ),
    )


def roi_align_cases():
    from mmcv.ops import roi_align

    # boxes partly and wholly outside, and one of no size
    rois = torch.tensor(
        [
            [0, 1.3, 2.2, 9.1, 11.8],
            [1, -5.0, -4.0, 3.0, 40.0],
            [1, 60.0, 60.0, 70.0, 70.0],
            [0, 4.0, 4.0, 4.0, 4.0],
        ]
    )
    for aligned, ratio, scale in itertools.product(
        (True, False), (0, 2), (1.0, 0.25)
    ):
        x = torch.randn(2, 3, 12, 15, requires_grad=True)
        y = roi_align(x, rois, (3, 4), scale, ratio, 'avg', aligned)
        grad = torch.randn(y.shape)
        y.backward(grad)
        yield f'roi_align {aligned} {ratio} {scale}', (y, x.grad)


def deform_conv_cases():
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    # everything asymmetric, so that no two settings can be exchanged
    sizes = (2, 1), (1, 0), (1, 2)  # stride, padding, dilation
    for groups in (1, 2):
        x = torch.randn(4, 4, 9, 8, requires_grad=True)
        w = torch.randn(6, 4 // groups, 3, 2, requires_grad=True)
        offset = torch.randn(4, 2 * 2 * 6, 5, 6, requires_grad=True)
        mask = torch.rand(4, 2 * 6, 5, 6, requires_grad=True)
        bias = torch.randn(6, requires_grad=True)

        y = deform_conv2d(x, offset, w, *sizes, groups, 2)
        grads = torch.autograd.grad(y, (x, offset, w), torch.randn(y.shape))
        yield f'deform_conv2d {groups}', (y, *grads)

        for b in (None, bias):
            y = modulated_deform_conv2d(
                x, offset, mask, w, b, *sizes, groups, 2
            )
            wanted = (x, offset, mask, w) + (() if b is None else (b,))
            grads = torch.autograd.grad(y, wanted, torch.randn(y.shape))
            yield f'modulated {groups} {b is None}', (y, *grads)


def main():
    if '--stand-in' in sys.argv:
        load_stand_in()
    results = {}
    for cases in (nms_cases, roi_align_cases, deform_conv_cases):
        torch.manual_seed(0)
        for name, tensors in cases():
            results[name] = [tensor.detach() for tensor in tensors]
    results['_ext'] = sys.modules['mmcv._ext'].__file__
    torch.save(results, sys.argv[1])


if __name__ == '__main__':
    main()
