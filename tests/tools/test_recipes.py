"""Run each recipe as it stands, on a miniature of its data set.

tools/train.py takes one step of training and evaluates once, from a ResNet-50
in torchvision's format. The options of each run make it small.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet50

from cgnl_mm.datasets.moving_digits import write_video

CONFIGS = Path(__file__).parents[2] / 'configs'
SMALL = [
    'train_dataloader.batch_size=2',
    *(
        f'{split}_dataloader.{option}'
        for split in ('train', 'val')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
]
EPOCH = ['train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1']
# These options give a file to start from, to each host and to res5 of C4.
IMAGE_START = 'model.backbone.init_cfg.checkpoint='
VIDEO_START = 'model.backbone.pretrained='
RES5_START = 'model.roi_head.shared_head.init_cfg.checkpoint='


def image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (120, 160, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, 'JPEG')


def video(path, seed):
    """Write 40 frames of noise that moves, 96 x 128."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = np.random.default_rng(seed).integers(0, 256, (96, 128))
    frames = [np.roll(frame, 3 * shift, axis=1) for shift in range(40)]
    write_video(path, np.stack(frames).astype(np.uint8))


def write_lines(path, lines):
    path.write_text(''.join(f'{line}\n' for line in lines))


def write_clips(folder, names, listing, blank=' '):
    """Write a video for each label, and the list of them."""
    for label, name in names.items():
        video(folder / name, label)
    write_lines(listing, [f'{name}{blank}{x}' for x, name in names.items()])


def cub(data):
    root = data / 'CUB_200_2011'
    names = [f'{1 + i:03}.Bird_{i}/Bird_{i}.jpg' for i in range(4)]
    for index, name in enumerate(names):
        image(root / 'images' / name, index)
    for name, values in {
        'images': names,
        'image_class_labels': [1, 2, 3, 200],
        'train_test_split': [1, 1, 0, 0],
    }.items():
        lines = [f'{i} {value}' for i, value in enumerate(values, 1)]
        write_lines(root / f'{name}.txt', lines)


def imagenet(data):
    for split in ('train', 'val'):
        folder = data / 'imagenet' / split
        for label in range(1000):  # The data set counts the folders.
            (folder / f'n{label:08}').mkdir(parents=True)
        for label in (0, 999):
            image(folder / f'n{label:08}/{label}.JPEG', label)


def ucf101(data):
    root = data / 'ucf101'
    for split in ('train', 'val'):
        names = {x: f'Class{x}/v_Class{x}_{split}.avi' for x in (0, 100)}
        # Only split 3 is there: the option must be obeyed.
        listing = root / f'ucf101_{split}_split_3_videos.txt'
        write_clips(root / 'videos', names, listing)


def minikinetics(data):
    (data / 'minikinetics').mkdir(parents=True)
    for split in ('train', 'val'):
        names = {x: f'class {x}/{split}.mp4' for x in (0, 199)}
        listing = data / f'minikinetics/{split}.txt'
        write_clips(data / 'kinetics400', names, listing, '\t')


def coco(data):
    from mmdet.datasets import CocoDataset

    root = data / 'coco'
    (root / 'annotations').mkdir(parents=True)
    classes = CocoDataset.METAINFO['classes']
    size = dict(height=120, width=160)
    shape = dict(
        bbox=[20, 10, 80, 90], area=80 * 90, iscrowd=0, category_id=1,
        segmentation=[[20, 10, 100, 10, 100, 100]],
    )  # fmt: skip
    content = dict(
        images=[dict(size, id=i, file_name=f'{i}.jpg') for i in range(2)],
        annotations=[dict(shape, id=i, image_id=i) for i in range(2)],
        categories=[dict(id=i, name=x) for i, x in enumerate(classes, 1)],
    )
    for split in ('train2017', 'val2017'):
        for index in range(2):
            image(root / split / f'{index}.jpg', index)
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
    # One step from random weights must leave something to predict.
    'optim_wrapper.optimizer.lr=1e-5',
]


def sizes(train, val):
    """Make smaller pictures: set the transforms, by their indices."""
    return [
        f'{split}_dataloader.dataset.pipeline.{option}'
        for split, options in (('train', train), ('val', val))
        for option in options.split()
    ]


IMAGES = EPOCH + sizes('1.scale=64', '1.scale=72 2.crop_size=64')
CLIPS = '1.clip_len=8 3.scale=(-1,72) 4.crop_size=64'
UCF = EPOCH + sizes('1.clip_len=8 3.scale_range=(72,80) 4.size=64', CLIPS)
BOXES = FEW_BOXES + sizes('2.scale=(160,120)', '1.scale=(160,120)')
NIGHTLY = pytest.mark.nightly
# Config, its data, its start, its options, what the log must tell. A nightly
# recipe has the host and the loop of another one.
RECIPES = [
    ('r50_cgnl_cub', cub, (IMAGE_START,), IMAGES, 'accuracy/top5'),
    ('i3d_r50_cgnl_ucf101', ucf101, (VIDEO_START,), UCF, 'acc/top5'),
    ('mask_rcnn_r50_c4_cgnl_coco', coco, (IMAGE_START, RES5_START), BOXES,
        'segm_mAP_75'),
    ('r50_cgnl_imagenet', imagenet, (IMAGE_START,), IMAGES, 'accuracy/top5'),
    ('i3d_r50_cgnl_minikinetics', minikinetics, (VIDEO_START,), UCF,
        'acc/top5'),
    ('mask_rcnn_r50_fpn_cgnl_coco', coco, (IMAGE_START,), BOXES,
        'segm_mAP_75'),
]  # fmt: skip


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Save a ResNet-50 as torchvision publishes it."""
    path = tmp_path_factory.mktemp('weights') / 'resnet50.pth'
    # Without zeros, activations grow in the detectors, whose norms are frozen.
    state = resnet50(zero_init_residual=True).state_dict()
    # A network is not built with this value.
    state['layer4.0.bn1.running_var'] += 0.5
    torch.save(state, path)
    yield path
    path.unlink()


@pytest.mark.parametrize(
    'name, write, starts, options, metric',
    [
        pytest.param(*row, id=row[0], marks=() if number < 3 else NIGHTLY)
        for number, row in enumerate(RECIPES)
    ],
)
def test_recipe_runs_on_a_miniature(
    name, write, starts, options, metric, weights, tmp_path, run_tool
):
    write(tmp_path / 'data')
    starts = [f'{option}{weights}' for option in starts]
    done = run_tool(
        'train.py', CONFIGS / f'{name}.py', '--cfg-options', *SMALL, *options,
        *starts, cwd=tmp_path, extra={'UCF101_SPLIT': '3'},
    )  # fmt: skip
    assert metric in done.stdout + done.stderr
    folder = f'{name}_split3' if 'ucf101' in name else name
    run = tmp_path / 'work_dirs' / folder
    last = run / ('iter_1.pth' if 'coco' in name else 'epoch_1.pth')
    state = torch.load(last)['state_dict']
    norm = state['backbone.layer3.cgnl_4.norm.weight']
    assert (norm != 0).float().mean() > 0.5
    # res5 of C4 has frozen norms, so it must not start at random.
    start = torch.load(weights)
    for key, value in state.items():
        if key.startswith('roi_head.shared_head.') and 'running' in key:
            name = key.removeprefix('roi_head.shared_head.')
            assert torch.equal(value, start[name]), key
    for checkpoint in run.glob('*.pth'):
        checkpoint.unlink()
