# python tools/train.py configs/r101_cgnl5_g32_cub.py
# bash tools/dist_train.sh configs/r101_cgnl5_g32_cub.py 8
_base_ = './_base_/recipe_r101_cub.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=32, init_std=0.01),
                after_blocks=((), (1, 3), (6, 13, 20), ()))
        ]))
