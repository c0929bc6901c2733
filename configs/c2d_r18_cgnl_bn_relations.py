# python tools/train.py configs/c2d_r18_cgnl_bn_relations.py
_base_ = './_base_/recipe_c2d_r18_relations.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='CGNL3d', groups=8, init_std=0.1,
                    norm_weight=0.3, norm_cfg=dict(type='BN3d')),
                after_blocks=((), (), (-2, )))
        ]))
