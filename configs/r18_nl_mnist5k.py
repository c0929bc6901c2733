# python tools/train.py configs/r18_nl_mnist5k.py
_base_ = './_base_/recipe_r18_mnist5k.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='NonLocal2d', norm_cfg=dict(type='BN')),
                after_blocks=((), (), (-2, ), ()))
        ]))
