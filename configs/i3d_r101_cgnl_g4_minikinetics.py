# python tools/train.py configs/i3d_r101_cgnl_g4_minikinetics.py
# bash tools/dist_train.sh configs/i3d_r101_cgnl_g4_minikinetics.py 8
# The recipe is for 8 GPUs x 8 clips: on fewer, add --auto-scale-lr.
_base_ = './_base_/recipe_i3d_r101_minikinetics.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='CGNL3d', groups=4, init_std=0.01),
                after_blocks=((), (), (-2, ), ()))
        ]))
