# python tools/train.py configs/c2d_r18_nl_relations.py
_base_ = './_base_/recipe_c2d_r18_relations.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='NonLocal3d', norm_cfg=dict(type='BN3d'), std=0.1),
                after_blocks=((), (), (-2, )))
        ]))
