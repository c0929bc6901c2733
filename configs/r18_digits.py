# python tools/train.py configs/r18_digits.py
_base_ = './_base_/recipe_r18_digits.py'
