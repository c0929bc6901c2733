# Recipe: that of Mini-Kinetics on UCF101 (the paper names no other), from
# ImageNet weights. Split 2:  UCF101_SPLIT=2 python tools/train.py CONFIG
# From Kinetics:  --cfg-options load_from=CHECKPOINT
_base_ = './recipe_i3d_r50_minikinetics.py'
model = dict(cls_head=dict(num_classes=101))

video_root = 'data/ucf101/videos'
train_list = 'data/ucf101/ucf101_train_split_{{$UCF101_SPLIT:1}}_videos.txt'
val_list = 'data/ucf101/ucf101_val_split_{{$UCF101_SPLIT:1}}_videos.txt'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoDataset',
        ann_file=train_list,
        data_prefix=dict(video=video_root),
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoDataset',
        ann_file=val_list,
        data_prefix=dict(video=video_root),
        pipeline={{_base_.val_pipeline}},
        test_mode=True))
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VideoDataset',
        ann_file=val_list,
        data_prefix=dict(video=video_root),
        pipeline={{_base_.test_pipeline}},
        test_mode=True))
