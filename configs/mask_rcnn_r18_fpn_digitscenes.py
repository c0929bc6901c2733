# python tools/train.py configs/mask_rcnn_r18_fpn_digitscenes.py
_base_ = './_base_/recipe_mask_rcnn_r18_fpn_digitscenes.py'
