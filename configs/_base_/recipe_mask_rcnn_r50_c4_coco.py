# Mask R-CNN R-50-C4 on COCO 2017: mmdet's model, the author's s1x schedule.
# All BatchNorms, a block's too, are frozen in their statistics (norm_eval).
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py',
    './coco_s1x.py',
]
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
# mmdet's Mask R-CNN C4 starts res5 at random, under frozen BatchNorms; its
# Faster R-CNN had the same fault repaired (mmdet #7435).
model = dict(
    roi_head=dict(
        shared_head=dict(
            init_cfg=dict(
                type='Pretrained',
                checkpoint='open-mmlab://detectron2/resnet50_caffe'))))
