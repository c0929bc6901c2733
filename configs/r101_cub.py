# python tools/train.py configs/r101_cub.py
# bash tools/dist_train.sh configs/r101_cub.py 8
_base_ = './_base_/r101_cub.py'
