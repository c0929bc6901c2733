# python tools/train.py configs/i3d_r50_cgnl_kinetics400.py
# bash tools/dist_train.sh configs/i3d_r50_cgnl_kinetics400.py 8
_base_ = './_base_/recipe_i3d_r50_kinetics400.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL3d', groups=8, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
