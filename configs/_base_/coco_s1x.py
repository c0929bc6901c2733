# The author's s1x schedule for Mask R-CNN: maskrcnn-benchmark's 1x for batch
# 8 (8 GPUs x 1 image), prolonged to 200k iterations, with a warm-up of 20k.
# 1x:  --cfg-options train_cfg.max_iters=180000 param_scheduler.0.end=500
#      param_scheduler.1.milestones="[120000,160000]"
_base_ = [
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/default_runtime.py',
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=200000, val_interval=20000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1 / 3,
        by_epoch=False,
        begin=0,
        end=20000),
    dict(type='MultiStepLR', by_epoch=False, milestones=[140000, 180000]),
]
train_dataloader = dict(
    batch_size=1, sampler=dict(type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    checkpoint=dict(
        type='AtomicCheckpointHook',
        by_epoch=False,
        interval=10000,
        max_keep_ckpts=3),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
log_processor = dict(by_epoch=False)
# 8 GPUs x 1 image; one GPU needs 8 times the iterations (configs/README.md)
auto_scale_lr = dict(enable=False, base_batch_size=8)
