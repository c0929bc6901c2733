# python tools/train.py configs/i3d_r18_movingdigits.py
_base_ = './_base_/recipe_i3d_r18_movingdigits.py'
