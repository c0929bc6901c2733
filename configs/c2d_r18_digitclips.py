# python tools/train.py configs/c2d_r18_digitclips.py
_base_ = './_base_/recipe_c2d_r18_relations.py'
load_from = None
model = dict(
    backbone=dict(frozen_stages=-1), cls_head=dict(num_classes=10))
train_dataloader = val_dataloader = test_dataloader = dict(
    dataset=dict(task='digit', data_root='data/digitclips', num_train=4000))
