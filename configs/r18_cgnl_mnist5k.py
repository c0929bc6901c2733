# python tools/train.py configs/r18_cgnl_mnist5k.py
_base_ = './_base_/recipe_r18_mnist5k.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8),
                after_blocks=((), (), (-2, ), ()))
        ]))
