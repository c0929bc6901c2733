# The recipe of R-50 at depth 101.
_base_ = './recipe_r50_cub.py'
model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
