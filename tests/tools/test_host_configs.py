"""Each tool over the hosts' own configs: it works, or it says one line."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import write_clip
from PIL import Image

from cgnl_mm.cli import load_config
from cgnl_mm.deploy.model import build_model

HERE = Path(__file__).parents[1] / 'deploy'
CROP = '3.scale=(-1,64)', '4.crop_size=64'
# a config's host and name, an input's size, and a faster test pipeline
CONFIGS = dict(
    resnet=('mmpretrain', 'resnet18_8xb32_in1k', (64, 64)),
    swin=('mmpretrain', 'swin-tiny_16xb64_in1k', (224, 224)),
    csra=('mmpretrain', 'resnet101-csra_1xb16*', (64, 64), '1.scale=64'),
    simclr=('mmpretrain', 'simclr_resnet50_8xb32-coslr-200e*', (64, 64)),
    tsn=('mmaction', 'tsn_*1x1x3*', (3, 64, 64), '1.num_clips=3', *CROP),
    tsm=('mmaction', 'tsm_*r50_8xb16-1x1x8-50e_k*', (8, 64, 64), *CROP),
    slowonly=('mmaction', 'slowonly_r50_8xb16-4x16*', (4, 64, 64), *CROP),
    flow=('mmaction', 'tsn_*flow', (15, 64, 64)),
    ava=('mmaction', 'slowonly_*400-*r50_*16-4x*ava21*', (4, 64, 64)),
    stgcn=('mmaction', 'stgcn_*-joint-u100-80e_ntu60*2d', (4, 64, 64)),
    faster=('mmdet', 'faster-rcnn_r50_fpn_1x_coco', (96, 128)),
    mask=('mmdet', 'mask-rcnn_r50_fpn_1x_coco', (96, 128)),
    yolox=('mmdet', 'yolox_tiny_8xb8-300e_coco', (96, 128)),
    pure_mmpretrain=('mmpretrain', '', (32, 32)),
    pure_mmaction=('mmaction', '', (4, 32, 32)),
    pure_mmdet=('mmdet', '', (64, 96)),
)
COCO, K400 = 'data/coco', 'data/kinetics400'
# where the data of the pure-Python configs are
PURE = dict(
    pure_mmpretrain=('data_root=data/imagenet', 'split=val'),
    pure_mmaction=(
        f'ann_file={K400}/kinetics400_val_list_videos.txt',
        f'data_prefix.video={K400}/videos_val',
    ),
    pure_mmdet=(
        f'ann_file={COCO}/annotations/instances_val2017.json',
        f'data_prefix.img={COCO}/val2017',
    ),
)
ODD = 'flow', 'ava', 'stgcn'  # networks of more, or of less, than pixels
NO_DATA = 'does not exist (seen from'
# what a tool says in place of its work, by config
REFUSED = {
    'get_flops': dict.fromkeys(ODD, 'the network cannot take an input of'),
    'export': dict.fromkeys(ODD, 'cannot be exported'),
    'infer': dict.fromkeys(ODD, "nothing in 'a.mp4' could be read"),
    'visualize_attention': dict.fromkeys(CONFIGS, 'no CGNL block with atten'),
    'train': dict.fromkeys(CONFIGS, NO_DATA),
    'test': dict.fromkeys(CONFIGS, NO_DATA),
    'data/check': dict.fromkeys((*ODD, 'csra'), NO_DATA),
}
REFUSED['export'].update(simclr='cannot be exported', swin='your code spec')
del REFUSED['visualize_attention']['pure_mmdet']
REFUSED['infer']['simclr'] = 'has no test pipeline'
REFUSED['test']['simclr'] = 'has no test_dataloader: nothing to test'
for tool in ('train', 'test'):
    REFUSED[tool].update(dict.fromkeys(PURE, f'nothing to {tool}'))
FAST = [('resnet', 'infer'), ('csra', 'train')]
FAST += [('pure_mmdet', 'train'), ('pure_mmdet', 'data/check')]
CASES = [
    pytest.param(
        name, tool, marks=() if (name, tool) in FAST else pytest.mark.nightly
    )
    for name in CONFIGS
    for tool in REFUSED
]


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope='session')
def world(once):
    """Make a folder with two samples of each data set that is read."""

    def make(folder):
        write_image(folder / 'a.jpg')
        write_clip(folder / 'a.mp4', 32)
        names = import_module('mmdet.datasets').CocoDataset.METAINFO['classes']
        named = [dict(id=i, name=name) for i, name in enumerate(names)]
        box = dict(bbox=[4, 4, 40, 36], area=1440, iscrowd=0)
        box['segmentation'] = [[4, 4, 44, 4, 44, 40, 4, 40]]
        image = dict(height=48, width=64)
        for split in ('train', 'val'):
            for i in range(2):
                write_image(folder / f'data/imagenet/{split}/{i}.jpg')
                write_image(folder / f'data/coco/{split}2017/{i}.jpg')
            videos = folder / f'data/kinetics400/videos_{split}'
            videos.mkdir(parents=True)
            write_clip(videos / '0.mp4', 32)
            lists = folder / 'data/imagenet/meta'
            lists.mkdir(exist_ok=True)
            (lists / f'{split}.txt').write_text('0.jpg 0\n1.jpg 1\n')
            name = f'kinetics400_{split}_list_videos.txt'
            (videos.parent / name).write_text('0.mp4 7\n')
            content = dict(
                images=[dict(image, id=i, file_name=f'{i}.jpg') for i in '01'],
                annotations=[
                    dict(box, id=i, image_id=str(i), category_id=i)
                    for i in (0, 1)
                ],
                categories=named,
            )
            lists = folder / 'data/coco/annotations'
            lists.mkdir(exist_ok=True)
            path = lists / f'instances_{split}2017.json'
            path.write_text(json.dumps(content))

    return once('world', make)


def load(name, folder):
    """Write the config of a name; return its path and its network's file."""
    host, pattern, *_ = CONFIGS[name]
    path, weights = HERE / f'{name}.py', folder / 'a.pth'
    if pattern:
        root = Path(import_module(host).__file__).parent / '.mim/configs'
        base = sorted(root.rglob(f'{pattern}.py'))[0].relative_to(root)
        path = folder / f'{name}.py'
        path.write_text(f'_base_ = {f"{host}::{base}"!r}')
    model = build_model(load_config(path), None)
    torch.save(dict(state_dict=model.state_dict()), weights)
    return path, weights


@pytest.mark.parametrize('name, tool', CASES)
def test_tool_works_or_says_one_line(world, run_tool, tmp_path, name, tool):
    """Training and testing stop where there are no data."""
    host, _, size, *steps = CONFIGS[name]
    path, weights = load(name, tmp_path)
    shape = '--shape', *size
    file = 'a.mp4' if host == 'mmaction' else 'a.jpg'
    changes = [f'test_dataloader.dataset.pipeline.{step}' for step in steps]
    data = [f'test_dataloader.dataset.{x}' for x in PURE.get(name, ())]
    see = [path, weights, file, '--out', tmp_path / 'out']
    see += ['--cfg-options', *changes] if changes else []
    command = {
        'get_flops': [path, *shape],
        'export': [path, 'none', '--out', tmp_path / 'a.pt2', *shape],
        'infer': see,
        'visualize_attention': see,
        'train': [path],
        'test': [path, weights],
        'data/check': [path, *(['--cfg-options', *data] if data else [])],
    }[tool]
    line = REFUSED[tool].get(name)
    done = run_tool(
        f'{tool}.py', *command,
        cwd=tmp_path if tool in ('train', 'test') else world,
        status=2 if line else 0,
    )  # fmt: skip
    assert 'Traceback' not in done.stderr
    errors = [x for x in done.stderr.splitlines() if x.startswith('error: ')]
    assert len(errors) == bool(line) and (line or '') in ''.join(errors)


@pytest.mark.nightly
@pytest.mark.parametrize('name', ['resnet', 'yolox'])
def test_training_starts(world, run_tool, tmp_path, name):
    loader = 'num_workers=0', 'persistent_workers=False', 'batch_size=2'
    options = [f'train_dataloader.{option}' for option in loader]
    run_tool(
        'train.py', load(name, tmp_path)[0], '--no-validate',
        '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
        *options, cwd=world,
    )  # fmt: skip
    assert (tmp_path / 'epoch_1.pth').is_file()
