# Mask R-CNN R-50-FPN on COCO 2017: mmdet's model, the author's s1x schedule.
# All BatchNorms, a block's too, are frozen in their statistics (norm_eval).
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './coco_s1x.py',
]
custom_imports = dict(imports=['cgnl_mm'], allow_failed_imports=False)
