# mmpretrain's 8xb32 recipe for ImageNet, from scratch, with a place for
# blocks.
_base_ = 'mmpretrain::resnet/resnet152_8xb32_in1k.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook'),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
