# The recipe of R-50 at depth 152.
_base_ = './recipe_r50_imagenet.py'
model = dict(
    backbone=dict(
        depth=152, init_cfg=dict(checkpoint='torchvision://resnet152')))
