"""Train, evaluate and resume a very small model of one host on real files.

    python host_run.py HOST WORK_DIR [--resume CHECKPOINT] [--epochs 2]

A script of its own, since compat/ has to act before the host is imported and
is switched off through the environment. Written into WORK_DIR/data: PNG
images (mmpretrain), mp4 videos (mmaction), PNG images with a COCO json of
boxes and masks (mmdet).
"""

import argparse
import json
from pathlib import Path

import numpy as np

# decord 0.6.0 cannot read batches of frames 48 or 72 pixels wide
SIZE = 64
N_FILES = 8


def draw(rng, label):
    """One image (SIZE, SIZE, 3) uint8 with a square; its box x, y, w, h."""
    image = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    x, y = rng.integers(2, 18, 2).tolist()
    side = 14 + 8 * label
    image[y : y + side, x : x + side, label] = 255
    return image, (x, y, side, side)


def write_images(folder):
    """``folder/{0,1}/*.png``, the layout of mmpretrain's CustomDataset."""
    import cv2

    rng = np.random.default_rng(0)
    for number in range(N_FILES):
        label = number % 2
        path = folder / str(label) / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw(rng, label)[0])


def write_videos(folder):
    """``folder/*.mp4`` and ``folder/list.txt``, mmaction's VideoDataset."""
    import av

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = []
    for number in range(N_FILES):
        label = number % 2
        with av.open(str(folder / f'{number}.mp4'), 'w') as video:
            stream = video.add_stream('mpeg4', rate=8)
            stream.width = stream.height = SIZE
            stream.pix_fmt = 'yuv420p'
            for _ in range(8):
                frame = av.VideoFrame.from_ndarray(
                    draw(rng, label)[0], format='rgb24'
                )
                video.mux(stream.encode(frame))
            video.mux(stream.encode())
        lines.append(f'{number}.mp4 {label}')
    (folder / 'list.txt').write_text('\n'.join(lines))


def write_coco(folder):
    """``folder/*.png`` and ``folder/coco.json`` with boxes and polygons."""
    import cv2

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(N_FILES):
        image, (x, y, w, h) = draw(rng, number % 2)
        cv2.imwrite(str(folder / f'{number}.png'), image)
        images.append(
            dict(id=number, file_name=f'{number}.png', width=SIZE, height=SIZE)
        )
        annotations.append(
            dict(
                id=number + 1,
                image_id=number,
                category_id=number % 2 + 1,
                bbox=[x, y, w, h],
                area=w * h,
                iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            )
        )
    categories = [dict(id=1, name='small'), dict(id=2, name='large')]
    (folder / 'coco.json').write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )


def loader(dataset, train, **kwargs):
    """Data loader without workers: starting one costs more than its work."""
    return dict(
        batch_size=2,
        num_workers=0,
        persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=train),
        dataset=dataset,
        **kwargs,
    )


def mmpretrain_config(folder):
    if not folder.exists():
        write_images(folder)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=32),
        dict(type='PackInputs'),
    ]
    dataset = dict(
        type='CustomDataset', data_prefix=str(folder), pipeline=pipeline
    )
    collate = dict(collate_fn=dict(type='default_collate'))
    return dict(
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='ResNet',
                depth=18,
                base_channels=8,
                stem_channels=8,
                norm_cfg=dict(type='SyncBN'),
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=2,
                in_channels=64,
                topk=1,
                loss=dict(type='CrossEntropyLoss'),
            ),
        ),
        data_preprocessor=dict(mean=[0] * 3, std=[255] * 3),
        train_dataloader=loader(dataset, True, **collate),
        val_dataloader=loader(dataset, False, **collate),
        val_evaluator=dict(type='Accuracy', topk=1),
    )


def mmaction_config(folder, decoder):
    if not folder.exists():
        write_videos(folder)
    prefix = dict(decord='Decord', pyav='PyAV')[decoder]
    pipeline = [
        dict(type=f'{prefix}Init'),
        dict(type='SampleFrames', clip_len=4, frame_interval=1, num_clips=1),
        dict(type=f'{prefix}Decode'),
        dict(type='Resize', scale=(32, 32), keep_ratio=False),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    dataset = dict(
        type='VideoDataset',
        ann_file=str(folder / 'list.txt'),
        data_prefix=dict(video=str(folder)),
        pipeline=pipeline,
    )
    return dict(
        model=dict(
            type='Recognizer3D',
            backbone=dict(
                type='ResNet3d',
                depth=18,
                pretrained=None,
                pretrained2d=False,
                base_channels=8,
                conv1_kernel=(3, 7, 7),
                norm_eval=False,
            ),
            cls_head=dict(
                type='I3DHead',
                num_classes=2,
                in_channels=64,
                average_clips='prob',
            ),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[0] * 3,
                std=[255] * 3,
                format_shape='NCTHW',
            ),
        ),
        train_dataloader=loader(dataset, True),
        val_dataloader=loader(dataset, False),
        val_evaluator=dict(type='AccMetric'),
    )


def mmdet_config(folder):
    from mmengine.config import Config

    if not folder.exists():
        write_coco(folder)
    model = Config.fromstring(
        "_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'", '.py'
    ).model.to_dict()
    model['data_preprocessor'].update(mean=[0] * 3, std=[255] * 3)
    model['backbone'].update(depth=18, base_channels=8, init_cfg=None)
    model['backbone'].update(norm_cfg=dict(type='BN'), frozen_stages=-1)
    model['neck'].update(in_channels=[8, 16, 32, 64], out_channels=16)
    model['rpn_head'].update(in_channels=16, feat_channels=16)
    model['rpn_head']['anchor_generator'].update(scales=[2])
    roi_head = model['roi_head']
    for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
        roi_head[extractor]['out_channels'] = 16
    roi_head['bbox_head'].update(
        in_channels=16, fc_out_channels=32, num_classes=2
    )
    roi_head['mask_head'].update(
        in_channels=16, conv_out_channels=16, num_classes=2
    )
    model['test_cfg']['rcnn']['score_thr'] = 0.0
    dataset = dict(
        type='CocoDataset',
        ann_file='coco.json',
        data_root=str(folder),
        data_prefix=dict(img=''),
        metainfo=dict(classes=('small', 'large')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )
    test_set = dict(dataset, test_mode=True)
    test_set['pipeline'] = [
        *dataset['pipeline'][:3],
        dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor'),
        ),
    ]
    return dict(
        model=model,
        train_dataloader=loader(dataset, True),
        val_dataloader=loader(test_set, False),
        val_evaluator=dict(
            type='CocoMetric',
            ann_file=str(folder / 'coco.json'),
            metric=['bbox', 'segm'],
        ),
    )


def config(host, work_dir, decoder='decord'):
    """The config of one host as a dict, without anything that compat/ does."""
    folder = Path(work_dir) / 'data' / host
    cfg = dict(
        mmpretrain=lambda: mmpretrain_config(folder),
        mmaction=lambda: mmaction_config(folder, decoder),
        mmdet=lambda: mmdet_config(folder),
    )[host]()
    cfg.update(
        test_dataloader=cfg['val_dataloader'],
        test_evaluator=cfg['val_evaluator'],
        test_cfg=dict(),
        default_scope=host,
        work_dir=str(work_dir),
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.005, momentum=0.9),
            clip_grad=dict(max_norm=10.0),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
            dict(type='MultiStepLR', milestones=[1], by_epoch=True),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=[dict(type='EMAHook')],
        # what the hosts' own configs have: no concession to the CPU
        env_cfg=dict(dist_cfg=dict(backend='nccl')),
        log_level='INFO',
        randomness=dict(seed=0),
    )
    return cfg


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('host', choices=['mmpretrain', 'mmaction', 'mmdet'])
    parser.add_argument('work_dir')
    parser.add_argument('--decoder', default='decord')
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--resume', metavar='CHECKPOINT')
    parser.add_argument('--launcher', default='none')
    parser.add_argument('--dump', help='write the config here and stop')
    args = parser.parse_args()

    from mmengine.config import Config
    from mmengine.runner import Runner

    import cgnl_mm  # noqa: F401

    cfg = Config(config(args.host, args.work_dir, args.decoder))
    cfg.train_cfg.max_epochs = args.epochs
    cfg.launcher = args.launcher
    cfg.resume, cfg.load_from = args.resume is not None, args.resume
    if args.dump:
        cfg.custom_imports = dict(imports=['cgnl_mm'])
        cfg.dump(args.dump)
        return
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
