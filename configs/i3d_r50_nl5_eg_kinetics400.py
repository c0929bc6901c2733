# python tools/train.py configs/i3d_r50_nl5_eg_kinetics400.py
# bash tools/dist_train.sh configs/i3d_r50_nl5_eg_kinetics400.py 8
_base_ = './_base_/recipe_i3d_r50_kinetics400.py'
model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(
                    type='NonLocal3d', mode='embedded_gaussian',
                    use_scale=False, sub_sample=True,
                    norm_cfg=dict(type='BN3d')),
                after_blocks=((), (1, 3), (1, 3, 5), ()))
        ]))
