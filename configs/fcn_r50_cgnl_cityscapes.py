# python tools/train.py configs/fcn_r50_cgnl_cityscapes.py
# pip install 'mmsegmentation[multimodal]==1.2.2'; no adapter of ours: its own
# ResNet takes the block into the branch of every unit of a stage
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8),
                stages=(False, False, True, False),
                position='after_conv3')
        ]))
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))
