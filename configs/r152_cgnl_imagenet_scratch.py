# python tools/train.py configs/r152_cgnl_imagenet_scratch.py
# bash tools/dist_train.sh configs/r152_cgnl_imagenet_scratch.py 8
_base_ = './_base_/recipe_r152_imagenet_scratch.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
