# python tools/train.py configs/i3d_r50_cgnl_ucf101.py
# UCF101_SPLIT=2 bash tools/dist_train.sh configs/i3d_r50_cgnl_ucf101.py 8
_base_ = './_base_/recipe_i3d_r50_ucf101.py'
work_dir = 'work_dirs/i3d_r50_cgnl_ucf101_split{{$UCF101_SPLIT:1}}'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL3d', groups=1, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
