# Recipe for MNIST-5k: 1,000 images to learn from, 2,500 to be tested on.
_base_ = './recipe_r18_digits.py'

# the block sees 7x7 positions
model = dict(
    backbone=dict(strides=(1, 1, 1, 2)),
    data_preprocessor=dict(mean=[33.0, 33.0, 33.0], std=[78.0, 78.0, 78.0]))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=28, padding=2),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(type='MNIST5k', per_class=100, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type='MNIST5k', per_class=100))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=15)
param_scheduler = dict(total_steps=15)
