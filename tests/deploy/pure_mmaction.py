"""A pure-Python config of a network of frames, four segments a video."""

from mmaction.datasets import (
    CenterCrop,
    FormatShape,
    PyAVDecode,
    PyAVInit,
    SampleFrames,
    VideoDataset,
)
from mmaction.datasets import PackActionInputs as Pack
from mmaction.models import ActionDataPreprocessor as Preprocessor
from mmaction.models import Recognizer2D, ResNetTSM, TSMHead

default_scope = None
model = dict(
    type=Recognizer2D,
    backbone=dict(type=ResNetTSM, depth=18, num_segments=4, pretrained='x'),
    cls_head=dict(
        type=TSMHead,
        num_classes=9,
        in_channels=512,
        num_segments=4,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type=Preprocessor, mean=[120, 110, 100], std=[50, 60, 70]
    ),
)
sampling = dict(clip_len=1, num_clips=4, twice_sample=True, test_mode=True)
pipeline = [
    dict(type=PyAVInit),
    dict(type=SampleFrames, **sampling),
    dict(type=PyAVDecode),
    dict(type=CenterCrop, crop_size=32),
    dict(type=FormatShape, input_format='NCHW'),
    dict(type=Pack),
]
test_dataloader = dict(dataset=dict(type=VideoDataset, pipeline=pipeline))
