# python tools/train.py configs/mask_rcnn_r18_fpn_cgnl_digitscenes.py
_base_ = './_base_/recipe_mask_rcnn_r18_fpn_digitscenes.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL2d', groups=8),
                after_blocks=((), (), (-2, ), ()))
        ]))
