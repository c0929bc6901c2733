# python tools/train.py configs/r50_cub.py
# bash tools/dist_train.sh configs/r50_cub.py 8
_base_ = './_base_/recipe_r50_cub.py'
