# python tools/train.py configs/c2d_r18_relations.py
_base_ = './_base_/recipe_c2d_r18_relations.py'
