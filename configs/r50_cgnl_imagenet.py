# python tools/train.py configs/r50_cgnl_imagenet.py
# bash tools/dist_train.sh configs/r50_cgnl_imagenet.py 8
_base_ = './_base_/recipe_r50_imagenet.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
