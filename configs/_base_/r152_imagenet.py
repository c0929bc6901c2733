# Recipe of r50_imagenet.py at depth 152.
_base_ = './r50_imagenet.py'
model = dict(
    backbone=dict(
        depth=152, init_cfg=dict(checkpoint='torchvision://resnet152')))
