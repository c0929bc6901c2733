# python tools/train.py configs/r101_nl5_cub.py
# bash tools/dist_train.sh configs/r101_nl5_cub.py 8
_base_ = './_base_/recipe_r101_cub.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='NonLocal2d', norm_cfg=dict(type='BN')),
                after_blocks=((), (1, 3), (6, 13, 20), ()))
        ]))
