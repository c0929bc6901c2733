# python tools/train.py configs/r18_cgnl_digits.py
_base_ = './_base_/recipe_r18_digits.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8),
                after_blocks=((), (), (-2, ), ()))
        ]))
