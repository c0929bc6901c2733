# python tools/train.py configs/mask_rcnn_r50_c4_cgnlx_coco.py
# bash tools/dist_train.sh configs/mask_rcnn_r50_c4_cgnlx_coco.py 8
_base_ = './_base_/recipe_mask_rcnn_r50_c4_coco.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='CGNL2d', groups=8, mode='gaussian_rbf', order=3,
                    init_std=0.01),
                after_blocks=((), (), (-2, )))
        ]))
