# Recipe of the video demo: trains on 2 CPU cores in minutes.
_base_ = 'mmaction::_base_/default_runtime.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3d',
        depth=18,
        pretrained=None,
        base_channels=16,
        conv1_kernel=(3, 5, 5),
        pool1_stride_s=2),
    cls_head=dict(
        type='I3DHead',
        num_classes=9,
        in_channels=128,
        spatial_type='avg',
        dropout_ratio=0.2,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[60.0, 60.0, 60.0],
        std=[60.0, 60.0, 60.0],
        format_shape='NCTHW'))

train_pipeline = [
    dict(type='VideoInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1),
    dict(type='VideoDecode'),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='VideoInit'),
    dict(
        type='SampleFrames',
        clip_len=8,
        frame_interval=2,
        num_clips=1,
        test_mode=True),
    dict(type='VideoDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='MovingDigits', split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MovingDigits',
        split='test',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=1)
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
        total_steps=8,
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
