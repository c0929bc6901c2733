# python tools/train.py configs/r18_mnist5k.py
_base_ = './_base_/recipe_r18_mnist5k.py'
