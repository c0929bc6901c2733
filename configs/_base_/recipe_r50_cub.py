# Recipe of the author's code for CUB-200-2011 at 448 px: fine-tuned from
# ImageNet weights, batch 256, 10 epochs of warm-up and 100 of training. The
# author warmed up the networks with blocks only; here every twin does.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    head=dict(
        type='DropoutLinearClsHead',
        num_classes=200,
        dropout_ratio=0.5,
        init_cfg=dict(
            type='Kaiming',
            layer='Linear',
            mode='fan_out',
            nonlinearity='relu',
            distribution='normal')),
    data_preprocessor=dict(
        num_classes=200,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True))

# A share above 1 never fits and is drawn again, as in torchvision. So 1.25
# gives practically the crops of 1.0: ten misses in a row, which take the
# largest central crop, occur once in some 10,000 images.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=448,
        crop_ratio_range=(0.08, 1.25),
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=512, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=448),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CUB',
        data_root='data/CUB_200_2011',
        split='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CUB',
        data_root='data/CUB_200_2011',
        split='test',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=110, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10),
    dict(type='MultiStepLR', by_epoch=True, milestones=[41, 71, 91]),
]
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook',
        interval=5, max_keep_ckpts=2, save_best='auto'),
    logger=dict(interval=10),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
# 8 GPUs x 32 images; on fewer, pass --auto-scale-lr
auto_scale_lr = dict(enable=False, base_batch_size=256)
