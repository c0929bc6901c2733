# Recipe of r50_cub.py at depth 101.
_base_ = './r50_cub.py'
model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
