# python tools/train.py configs/r152_imagenet_scratch.py
# bash tools/dist_train.sh configs/r152_imagenet_scratch.py 8
_base_ = './_base_/recipe_r152_imagenet_scratch.py'
