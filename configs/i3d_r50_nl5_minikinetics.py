# python tools/train.py configs/i3d_r50_nl5_minikinetics.py
# bash tools/dist_train.sh configs/i3d_r50_nl5_minikinetics.py 8
# The recipe is for 8 GPUs x 8 clips: on fewer, add --auto-scale-lr.
_base_ = './_base_/recipe_i3d_r50_minikinetics.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='NonLocal3d', norm_cfg=dict(type='BN3d')),
                after_blocks=((), (1, 3), (1, 3, 5), ()))
        ]))
