# python tools/train.py configs/i3d_r18_relations.py
_base_ = './_base_/recipe_c2d_r18_relations.py'
# python tools/train.py configs/i3d_r18_digitclips.py
load_from = 'work_dirs/i3d_r18_digitclips/epoch_6.pth'
model = dict(backbone=dict(conv1_kernel=(3, 5, 5), inflate=(1, 1, 1)))
