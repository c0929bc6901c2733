"""Each recipe runs as it stands, on a miniature of its data set.

One step of training and one evaluation by tools/train.py, from a ResNet-50 in
torchvision's format; what makes it small is in the options of each run.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

import cgnl_mm  # noqa: F401  its checkpoints load with weights_only

CONFIGS = Path(__file__).parents[2] / 'configs'
SMALL = [
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
]
EPOCH = ['train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1']
# the start of each config's host, as an option that takes a file
IMAGE_START = 'model.backbone.init_cfg.checkpoint='
VIDEO_START = 'model.backbone.pretrained='
RES5_START = 'model.roi_head.shared_head.init_cfg.checkpoint='


def image(path, seed, size=(120, 160)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), np.uint8))


def video(path, seed):
    """40 frames of noise that moves, 96 x 128."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (96, 128, 3), np.uint8)
    codec = 'MJPG' if path.suffix == '.avi' else 'mp4v'
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*codec), 25, (128, 96)
    )
    for shift in range(40):
        writer.write(np.roll(frame, 3 * shift, axis=1))
    writer.release()


def cub(data):
    root = data / 'CUB_200_2011'
    names = [f'{1 + i:03}.Bird_{i}/Bird_{i}.jpg' for i in range(4)]
    for index, name in enumerate(names):
        image(root / 'images' / name, index)
    lists = {
        'images.txt': names,
        'image_class_labels.txt': [1, 2, 3, 200],
        'train_test_split.txt': [1, 1, 0, 0],
    }
    for name, values in lists.items():
        lines = [f'{i} {value}\n' for i, value in enumerate(values, 1)]
        (root / name).write_text(''.join(lines))


def imagenet(data):
    for split in ('train', 'val'):
        for label in range(1000):  # the data set counts the folders
            (data / 'imagenet' / split / f'n{label:08}').mkdir(parents=True)
        for label in (0, 999):
            name = f'n{label:08}/{label}.JPEG'
            image(data / 'imagenet' / split / name, label)


def ucf101(data):
    root = data / 'ucf101'
    for split in ('train', 'val'):
        lines = []
        for label in (0, 100):
            name = f'Class{label}/v_Class{label}_{split}.avi'
            video(root / 'videos' / name, label)
            lines.append(f'{name} {label}\n')
        # only split 3 is there: the option must be obeyed
        listing = root / f'ucf101_{split}_split_3_videos.txt'
        listing.write_text(''.join(lines))


def kinetics400(data):
    root = data / 'kinetics400'
    for split in ('train', 'val'):
        lines = []
        for label in (0, 399):
            video(root / f'videos_{split}' / f'{label}.mp4', label)
            lines.append(f'{label}.mp4 {label}\n')
        listing = root / f'kinetics400_{split}_list_videos.txt'
        listing.write_text(''.join(lines))


def coco(data):
    from mmdet.datasets import CocoDataset

    root = data / 'coco'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        classes = CocoDataset.METAINFO['classes']
        content = dict(
            images=[],
            annotations=[],
            categories=[
                dict(id=i, name=name) for i, name in enumerate(classes, 1)
            ],
        )
        for index in range(2):
            name = f'{index:012}.jpg'
            image(root / split / name, index)
            content['images'].append(
                dict(id=index, file_name=name, height=120, width=160)
            )
            left, top, width, height = box = [20 + index, 10, 80, 90]
            right, bottom = left + width, top + height
            content['annotations'].append(
                dict(
                    id=index, image_id=index, category_id=1, iscrowd=0,
                    bbox=box, area=width * height,
                    segmentation=[[left, top, right, top, right, bottom]],
                )
            )  # fmt: skip
        path = root / f'annotations/instances_{split}.json'
        path.write_text(json.dumps(content))


FEW_BOXES = [
    'train_dataloader.batch_size=1',
    'train_cfg.max_iters=1',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
    'model.train_cfg.rpn_proposal.max_per_img=32',
    'model.train_cfg.rcnn.sampler.num=16',
    'model.test_cfg.rpn.max_per_img=8',
    'model.test_cfg.rcnn.score_thr=0.001',
    'model.test_cfg.rcnn.max_per_img=8',
    # one step from random weights must leave something to predict
    'optim_wrapper.optimizer.lr=1e-5',
]


def sizes(train, val):
    """Smaller pictures: settings of the transforms, by their indices."""
    return [
        f'{split}_dataloader.dataset.pipeline.{option}'
        for split, options in (('train', train), ('val', val))
        for option in options.split()
    ]


IMAGES = EPOCH + sizes('1.scale=64', '1.scale=72 2.crop_size=64')
CLIPS = '1.clip_len=8 3.scale=(-1,72) 4.crop_size=64'
UCF = EPOCH + sizes('1.clip_len=8 3.scale_range=(72,80) 4.size=64', CLIPS)
KINETICS = EPOCH + sizes(
    '1.clip_len=8 3.scale=(-1,72) 4.input_size=64 5.scale=(64,64)', CLIPS
)
BOXES = FEW_BOXES + sizes('2.scale=(160,120)', '1.scale=(160,120)')
# config, its data, its start, its options, what the log must tell
RECIPES = [
    ('r50_cgnl_cub', cub, IMAGE_START, IMAGES, 'accuracy/top5'),
    ('i3d_r50_cgnl_ucf101', ucf101, VIDEO_START, UCF, 'acc/top5'),
    (
        'mask_rcnn_r50_c4_cgnl_coco', coco, (IMAGE_START, RES5_START), BOXES,
        'segm_mAP_75',
    ),
]  # fmt: skip
# These recipes have the hosts and the loops of the ones above.
ALIKE = [
    ('r50_cgnl_imagenet', imagenet, IMAGE_START, IMAGES, 'accuracy/top5'),
    ('r50_cgnl_imagenet_scratch', imagenet, (), IMAGES, 'accuracy/top5'),
    (
        'i3d_r50_cgnl_kinetics400', kinetics400, VIDEO_START, KINETICS,
        'acc/top5',
    ),
    (
        'mask_rcnn_r50_fpn_cgnl_coco', coco, IMAGE_START, BOXES,
        'segm_mAP_75',
    ),
]  # fmt: skip


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A ResNet-50 as torchvision publishes it."""
    path = tmp_path_factory.mktemp('weights') / 'resnet50.pth'
    # zero: else the activations grow in the detectors, whose norms are frozen
    state = resnet50(zero_init_residual=True).state_dict()
    # told apart from what a network is built with
    state['layer4.0.bn1.running_var'] += 0.5
    torch.save(state, path)
    yield path
    path.unlink()


@pytest.mark.parametrize(
    'name, write, start, options, metric',
    RECIPES + [pytest.param(*x, marks=pytest.mark.nightly) for x in ALIKE],
    ids=[recipe[0] for recipe in RECIPES + ALIKE],
)
def test_recipe_runs_on_a_miniature(
    name, write, start, options, metric, weights, tmp_path, run_tool
):
    write(tmp_path / 'data')
    for option in [start] if isinstance(start, str) else start:
        options = [*options, f'{option}{weights}']
    done = run_tool(
        'train.py', CONFIGS / f'{name}.py', '--cfg-options', *SMALL, *options,
        cwd=tmp_path, extra={'UCF101_SPLIT': '3'},
    )  # fmt: skip
    log = done.stdout + done.stderr
    assert metric in log
    run = tmp_path / 'work_dirs' / name
    if 'ucf101' in name:
        run = run.with_name(f'{name}_split3')
    last = run / ('iter_1.pth' if 'coco' in name else 'epoch_1.pth')
    state = torch.load(last)['state_dict']
    norm = state['backbone.layer3.cgnl_4.norm.weight']
    assert (norm != 0).float().mean() > 0.5
    # res5 of C4 has frozen norms, so it must not start at random
    start = torch.load(weights)
    for key, value in state.items():
        if key.startswith('roi_head.shared_head.') and 'running' in key:
            name = key.removeprefix('roi_head.shared_head.')
            assert torch.equal(value, start[name]), key
    for checkpoint in run.glob('*.pth'):
        checkpoint.unlink()
