# Recipe of the classification demo: trains on 2 CPU cores in about a minute.
_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(1, 2, 2, 2)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss')),
    data_preprocessor=dict(
        mean=[75.0, 75.0, 75.0], std=[85.0, 85.0, 85.0], to_rgb=True))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='Digits', split='test', pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
# total_steps must follow max_epochs; a finished run cannot be extended
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=2e-3,
    total_steps=10,
    by_epoch=True,
    convert_to_iter_based=True)
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook',
        interval=1, max_keep_ckpts=1, save_best='auto'),
    logger=dict(interval=20),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
randomness = dict(seed=0)
