"""A pure-Python config: all types are classes."""

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.models import FCOS, FPN, FCOSHead, ResNet
from mmdet.models import DetDataPreprocessor as Preprocessor

from cgnl_mm import CGNL2d

__import__('cgnl_mm')
default_scope = None
model = dict(
    type=FCOS,
    data_preprocessor=dict(
        type=Preprocessor,
        mean=[120, 110, 100],
        std=[50, 60, 70],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type=ResNet,
        depth=18,
        plugins=[dict(cfg=dict(type=CGNL2d), after='layer3.-2')],
    ),
    neck=dict(
        type=FPN, in_channels=[64, 128, 256, 512], out_channels=32, num_outs=5
    ),
    bbox_head=dict(type=FCOSHead, num_classes=80, in_channels=32),
    test_cfg=dict(
        nms_pre=9, score_thr=0, nms=dict(iou_threshold=1), max_per_img=9
    ),
)
pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=(96, 64), keep_ratio=True),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=PackDetInputs),
]
test_dataloader = dict(dataset=dict(type=CocoDataset, pipeline=pipeline))
