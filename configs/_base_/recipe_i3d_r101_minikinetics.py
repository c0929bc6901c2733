# The recipe of R-50 at depth 101; temporal kernels in every other unit, as in
# mmaction2's R-50.
_base_ = './recipe_i3d_r50_minikinetics.py'
model = dict(
    backbone=dict(
        depth=101,
        pretrained='torchvision://resnet101',
        inflate=((1, 1, 1), (1, 0, 1, 0), (1, 0) * 11 + (1, ), (0, 1, 0))))
