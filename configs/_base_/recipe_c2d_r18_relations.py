# Recipe of the relations: trains on 2 CPU cores in minutes. The network has no
# temporal kernels: it adds up its frames, unless a block relates them.
_base_ = 'mmaction::_base_/default_runtime.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
# single digits, as others start from ImageNet:
# python tools/train.py configs/c2d_r18_digitclips.py
load_from = 'work_dirs/c2d_r18_digitclips/epoch_6.pth'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3d',
        depth=18,
        pretrained=None,
        num_stages=3,
        out_indices=(2, ),
        base_channels=16,
        conv1_kernel=(1, 5, 5),
        spatial_strides=(1, 2, 1),
        temporal_strides=(1, 1, 1),
        dilations=(1, 1, 1),
        inflate=(0, 0, 0),
        frozen_stages=2,
        with_pool1=False,
        with_pool2=False,
        zero_init_residual=False),
    cls_head=dict(
        type='I3DHead',
        num_classes=2,
        in_channels=64,
        spatial_type='avg',
        dropout_ratio=0,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[60.0, 60.0, 60.0],
        std=[60.0, 60.0, 60.0],
        format_shape='NCTHW'))

frames = [
    dict(type='VideoCache'),
    dict(type='SampleFrames', clip_len=3, frame_interval=1, num_clips=1),
    dict(type='ArrayDecode'),
]
pack = [
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
# one turn and one size for a clip
vary = dict(
    type='TorchVisionWrapper',
    op='RandomAffine',
    degrees=12,
    scale=(0.9, 1.1),
    shear=12)
train_pipeline = [*frames, vary, *pack]
test_pipeline = [*frames, *pack]
train_dataloader = dict(
    batch_size=48,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Relations', split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='Relations',
        split='test',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=40, norm_type=2))
# total_steps must follow max_epochs; a finished run cannot be extended
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=2e-3,
        total_steps=6,
        pct_start=0.2,
        by_epoch=True,
        convert_to_iter_based=True)
]
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook',
        interval=1, max_keep_ckpts=1, save_best='auto'),
    logger=dict(interval=25),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
randomness = dict(seed=0)
