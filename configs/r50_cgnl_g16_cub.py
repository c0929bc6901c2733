# python tools/train.py configs/r50_cgnl_g16_cub.py
# bash tools/dist_train.sh configs/r50_cgnl_g16_cub.py 8
_base_ = './_base_/recipe_r50_cub.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=16, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
