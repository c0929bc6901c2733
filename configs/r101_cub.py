# python tools/train.py configs/r101_cub.py
# bash tools/dist_train.sh configs/r101_cub.py 8
_base_ = './_base_/recipe_r101_cub.py'
