# python tools/train.py configs/i3d_r18_nl_movingdigits.py
_base_ = './_base_/recipe_i3d_r18_movingdigits.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='NonLocal3d', norm_cfg=dict(type='BN3d')),
                after_blocks=((), (), (-2, ), ()))
        ]))
