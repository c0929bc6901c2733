# python tools/train.py configs/r101_cgnlx_cub.py
# bash tools/dist_train.sh configs/r101_cgnlx_cub.py 8
_base_ = './_base_/recipe_r101_cub.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='CGNL2d', groups=8, mode='gaussian_rbf', order=3,
                    init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
