# python tools/train.py configs/i3d_r18_digitclips.py
_base_ = './c2d_r18_digitclips.py'
model = dict(backbone=dict(conv1_kernel=(3, 5, 5), inflate=(1, 1, 1)))
