# mmaction2's I3D-R50 32x2x1 on Kinetics-400 with a place for blocks: its
# published rows (base, NL) are comparable with ours.
_base_ = 'mmaction::recognition/i3d/' \
    'i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook'),
    exact_resume=dict(type='ExactResumeHook'),
    preemption=dict(type='PreemptionHook'),
    numerics=dict(type='NumericsHook'),
    unreadable=dict(type='UnreadableDataHook'))
