# python tools/train.py configs/r18_digits.py
_base_ = './_base_/r18_digits.py'
