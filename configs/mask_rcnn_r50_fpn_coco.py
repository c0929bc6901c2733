# python tools/train.py configs/mask_rcnn_r50_fpn_coco.py
# bash tools/dist_train.sh configs/mask_rcnn_r50_fpn_coco.py 8
_base_ = './_base_/recipe_mask_rcnn_r50_fpn_coco.py'
