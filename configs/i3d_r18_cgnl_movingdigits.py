# python tools/train.py configs/i3d_r18_cgnl_movingdigits.py
_base_ = './_base_/recipe_i3d_r18_movingdigits.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL3d', groups=8),
                after_blocks=((), (), (-2, ), ()))
        ]))
