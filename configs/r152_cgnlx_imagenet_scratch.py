# python tools/train.py configs/r152_cgnlx_imagenet_scratch.py
# bash tools/dist_train.sh configs/r152_cgnlx_imagenet_scratch.py 8
_base_ = './_base_/recipe_r152_imagenet_scratch.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='CGNL2d', groups=8, mode='gaussian_rbf', order=3,
                    init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
