# Recipe of the author's code for ImageNet: that of CUB at 224 px, so again
# fine-tuned from torchvision's ImageNet weights with a new classifier.
# The published base is torchvision's network as it is, not fine-tuned.
_base_ = './recipe_r50_cub.py'
model = dict(
    head=dict(num_classes=1000), data_preprocessor=dict(num_classes=1000))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.08, 1.25),
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(
        type='ImageNet', data_root='data/imagenet', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=100))
