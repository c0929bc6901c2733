# python tools/train.py configs/r152_imagenet.py
# bash tools/dist_train.sh configs/r152_imagenet.py 8
_base_ = './_base_/recipe_r152_imagenet.py'
