# python tools/train.py configs/i3d_r50_ucf101.py
# UCF101_SPLIT=2 bash tools/dist_train.sh configs/i3d_r50_ucf101.py 8
_base_ = './_base_/recipe_i3d_r50_ucf101.py'
work_dir = 'work_dirs/i3d_r50_ucf101_split{{$UCF101_SPLIT:1}}'
