"""A pure-Python config: all types are classes."""

from mmengine.model import PretrainedInit
from mmpretrain.datasets import CenterCrop, ImageNet, LoadImageFromFile
from mmpretrain.datasets import PackInputs as Pack
from mmpretrain.models import GlobalAveragePooling as Pooling
from mmpretrain.models import ImageClassifier, LinearClsHead, ResNet

default_scope = None
data_preprocessor = dict(mean=[120, 110, 100], std=[50, 60, 70], to_rgb=True)
weights = dict(type=PretrainedInit, checkpoint='https://no.where/x.pth')
model = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet, depth=18, init_cfg=[weights]),
    neck=dict(type=Pooling),
    head=dict(type=LinearClsHead, num_classes=9, in_channels=512),
)
pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=CenterCrop, crop_size=32),
    dict(type=Pack),
]
test_dataloader = dict(dataset=dict(type=ImageNet, pipeline=pipeline))
