# python tools/train.py configs/mask_rcnn_r18_fpn_nl_digitscenes.py
_base_ = './_base_/recipe_mask_rcnn_r18_fpn_digitscenes.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='NonLocal2d', norm_cfg=dict(type='BN')),
                after_blocks=((), (), (-2, ), ()))
        ]))
