"""infer.py on real files of the three hosts, some of them broken."""

import json
import shutil
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from demos import CONFIGS, trained
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.registry import init_default_scope

from cgnl_mm.errors import SetupError

NAMES = dict(
    mmpretrain='r18_cgnl_digits',
    mmaction='i3d_r18_cgnl_movingdigits',
    mmdet='mask_rcnn_r18_fpn_cgnl_digitscenes',
)
FILES = dict(
    mmpretrain='digits/test/*/*7.png',
    mmaction='movingdigits/videos/*.mp4',
    mmdet='digitscenes/*/*.png',
)


@pytest.fixture(scope='module')
def files(demo, tmp_path_factory):
    """Three files for each host, in a folder and in one below."""
    folder = tmp_path_factory.mktemp('files')
    for host, pattern in FILES.items():
        paths = sorted((demo / 'data').glob(pattern))
        paths = paths[:: len(paths) // 3]
        (folder / host / 'sub').mkdir(parents=True)
        for name, path in zip(('a', 'b', 'sub/c'), paths, strict=True):
            shutil.copy(path, folder / host / f'{name}{path.suffix}')
    return folder


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Weights of each host's network as a training saves them."""
    folder = tmp_path_factory.mktemp('weights')
    classes = [f'class {i}' for i in range(10)]
    meta = dict(dataset_meta=dict(classes=classes))
    made = {}
    for host, name in NAMES.items():
        torch.manual_seed(0)
        cfg, model = trained(name)
        state = model.state_dict()
        if host == 'mmdet':  # else everything is background
            state['roi_head.bbox_head.fc_cls.bias'][1] = 4
        path = folder / f'{host}.pth'
        torch.save(dict(state_dict=state, meta=meta), path)
        made[host] = path, cfg, model
    return made


@pytest.fixture
def tool(load_tool):
    return load_tool('infer')


@pytest.fixture
def infer(tool, monkeypatch, checkpoints):
    """Run it here; returns the records that it writes."""

    def run(host, path, out, *options):
        argv = [
            'infer.py', CONFIGS / f'{NAMES[host]}.py', checkpoints[host][0],
            path, '--out', out, '--device', 'cpu', *options,
        ]  # fmt: skip
        monkeypatch.setattr(sys, 'argv', list(map(str, argv)))
        tool.main()
        return json.loads((out / 'predictions.json').read_text())

    return run


def expected_sample(host, checkpoints, file):
    """Through the data set's own loader and test_step."""
    _, cfg, model = checkpoints[host]
    init_default_scope(host)
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    if host == 'mmaction':
        data = dict(filename=str(file), label=0, start_index=0, modality='RGB')
    else:
        data = dict(img_path=str(file), img_id=0, sample_idx=0)
    collate = default_collate if host == 'mmpretrain' else pseudo_collate
    with torch.no_grad():
        (sample,) = model.test_step(collate([pipeline(data)]))
    return sample


@pytest.mark.parametrize('host', NAMES)
def test_folder(infer, capsys, files, checkpoints, host, tmp_path):
    """Predictions of the test protocol, a picture each, subfolders kept."""
    folder = files / host
    records = infer(host, folder, tmp_path)
    names = [Path(record['file']).relative_to(folder) for record in records]
    assert [name.with_suffix('').as_posix() for name in names] == [
        'a', 'b', 'sub/c',
    ]  # fmt: skip
    for name, record in zip(names, records):
        sample = expected_sample(host, checkpoints, folder / name)
        if host == 'mmdet':
            check_objects(record['objects'], sample.pred_instances)
        else:
            check_top(record['top'], sample.pred_score)
        target = tmp_path / 'pictures' / name.with_suffix('.png')
        picture = matplotlib.image.imread(target)
        assert np.unique(picture[..., :3].reshape(-1, 3), axis=0).size > 100
    assert '3 predicted, 0 unreadable' in capsys.readouterr().out


def check_top(top, scores):
    values, labels = scores.topk(5)
    assert [entry['label'] for entry in top] == labels.tolist()
    assert [entry['name'] for entry in top] == [f'class {i}' for i in labels]
    assert [entry['score'] for entry in top] == pytest.approx(
        values.tolist(), abs=1e-5
    )


def check_objects(objects, instances):
    kept = instances[instances.scores >= 0.3]
    assert len(kept) == len(objects)
    for entry, label, score, box in zip(
        objects, kept.labels, kept.scores, kept.bboxes
    ):
        assert entry['label'] == label
        assert entry['name'] == f'class {label}'
        assert entry['score'] == pytest.approx(score.item(), abs=1e-5)
        assert entry['box'] == pytest.approx(box.tolist(), abs=0.01)


def test_score_threshold(infer, files, checkpoints, tmp_path):
    file = files / 'mmdet/a.png'
    sample = expected_sample('mmdet', checkpoints, file)
    scores = sample.pred_instances.scores.sort().values
    assert len(scores) > 5
    between = (scores[2] + scores[3]).item() / 2
    options = '--score-thr', between, '--no-pictures'
    (record,) = infer('mmdet', file, tmp_path, *options)
    assert len(record['objects']) == len(scores) - 3
    assert not (tmp_path / 'pictures').exists()


@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet'])
def test_red_stays_red(infer, host, tmp_path):
    """Files are decoded to BGR, pictures are RGB."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    matplotlib.image.imsave(tmp_path / 'a.png', red)
    infer(host, tmp_path / 'a.png', tmp_path, '--score-thr', 0.999)
    picture = matplotlib.image.imread(tmp_path / 'pictures/a.png')[..., :3]
    assert (abs(picture - (1, 0, 0)).max(-1) < 0.05).sum() > 1000
    assert (abs(picture - (0, 0, 1)).max(-1) < 0.05).sum() == 0


@pytest.mark.parametrize('host', NAMES)
def test_broken_files_are_counted_and_the_rest_goes_on(
    infer, capsys, files, host, tmp_path
):
    folder = tmp_path / 'files'
    shutil.copytree(files / host, folder)
    good = sorted(folder.glob('b.*'))[0]
    suffix = good.suffix
    (folder / f'empty{suffix}').touch()
    (folder / f'half{suffix}').write_bytes(good.read_bytes()[:60])
    (folder / f'text{suffix}').write_text('not a picture')
    (folder / 'readme.txt').touch()  # nobody's business
    records = infer(host, folder, tmp_path / 'out')
    printed = capsys.readouterr()
    assert '3 predicted, 3 unreadable' in printed.out
    failed = [Path(r['file']).stem for r in records if 'error' in r]
    assert failed == ['empty', 'half', 'text']
    assert printed.err.count('unreadable: ') == 3
    pictures = (tmp_path / 'out/pictures').rglob('*.png')
    assert len(list(pictures)) == 3


def test_names_of_pictures(tool):
    names = ['a.png', 'b.jpg', 'b.bmp', 'sub/b.jpg', 'b.jpg.png', 'x.y.mp4']
    found = tool.picture_names([Path(name) for name in names])
    assert [path.as_posix() for path in found] == [
        'a.png', 'b.jpg.png', 'b.bmp.png', 'sub/b.png', 'b.jpg.png.png',
        'x.y.png',
    ]  # fmt: skip


def test_small_scene_is_enlarged_with_what_was_found(tool):
    from _infer_hosts import BAND, enlarged
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    image = np.arange(128 * 96 * 3, dtype=np.uint8).reshape(128, 96, 3)
    masks = torch.zeros(2, 128, 96, dtype=torch.bool)
    masks[0, 2:10, 5:20] = masks[1, 60:80, 30:50] = True
    boxes = torch.tensor([[5.0, 2, 20, 10], [30, 60, 50, 80]])
    sample = DetDataSample(
        pred_instances=InstanceData(bboxes=boxes.clone(), masks=masks)
    )
    large, drawn = enlarged(image, sample)
    assert large.shape == (640 + BAND, 480, 3)
    assert np.array_equal(large[BAND::5, ::5], image)
    assert (large[:BAND] == 255).all()  # room for the first one's label
    for box, mask in zip(
        drawn.pred_instances.bboxes, drawn.pred_instances.masks
    ):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        ]  # fmt: skip
    assert torch.equal(sample.pred_instances.bboxes, boxes)  # a copy
    # one that is large enough stays
    wide = np.zeros((480, 640, 3), np.uint8)
    sample.pred_instances = sample.pred_instances[1:]
    assert enlarged(wide, sample)[0].shape == wide.shape


@pytest.mark.parametrize('path, message', [
    ('text.png', 'nothing in .* could be read'),
    ('nowhere', "no file or folder '.*nowhere'"),
    ('', r'ends in .*\.jpg.*which this config'),
])  # fmt: skip
def test_nothing_to_predict(infer, tmp_path, path, message):
    (tmp_path / 'text.png').write_text('no')
    folder = tmp_path / 'clips'
    folder.mkdir()
    (folder / 'clip.mp4').touch()
    where = tmp_path / path if path else folder
    with pytest.raises(SetupError, match=message):
        infer('mmpretrain', where, tmp_path / 'out')


def test_pictures_of_an_earlier_run_are_no_input(
    infer, capsys, files, tmp_path
):
    shutil.copytree(files / 'mmpretrain', tmp_path / 'images')
    for _ in range(2):
        infer('mmpretrain', tmp_path / 'images', tmp_path / 'images/out')
        assert '3 predicted, 0 unreadable' in capsys.readouterr().out


def test_names_of_the_data_set_where_the_checkpoint_has_none(
    tool, checkpoints, tmp_path
):
    from _infer_hosts import class_names

    path, cfg, _ = checkpoints['mmaction']
    state = torch.load(path)
    torch.save(dict(state_dict=state['state_dict']), tmp_path / 'bare.pth')
    from cgnl_mm.datasets.moving_digits import CLASSES

    assert class_names(cfg, str(tmp_path / 'bare.pth')) == tuple(CLASSES)
    assert class_names(cfg, str(path))[0] == 'class 0'


def test_command(run_tool, files, checkpoints, tmp_path):
    done = run_tool(
        'infer.py',
        *(CONFIGS / 'r18_cgnl_digits.py', checkpoints['mmpretrain'][0]),
        *(files / 'mmpretrain/a.png', '--out', 'out'),
        cwd=tmp_path,
    )
    assert '[1/1] a.png: class ' in done.stdout
    assert (tmp_path / 'out/pictures/a.png').is_file()


def test_inferencers_of_the_hosts_take_our_configs(files, checkpoints):
    """Without our tool: config, checkpoint, file."""
    from mmdet.apis import DetInferencer
    from mmpretrain import ImageClassificationInferencer

    path, cfg, _ = checkpoints['mmpretrain']
    file = files / 'mmpretrain/a.png'
    inferencer = ImageClassificationInferencer(cfg, pretrained=str(path))
    (result,) = inferencer(str(file))
    sample = expected_sample('mmpretrain', checkpoints, file)
    assert result['pred_label'] == sample.pred_score.argmax()
    assert result['pred_class'] == f'class {result["pred_label"]}'

    path, cfg, _ = checkpoints['mmdet']
    file = files / 'mmdet/a.png'
    inferencer = DetInferencer(cfg, str(path), 'cpu', show_progress=False)
    (result,) = inferencer(str(file))['predictions']
    sample = expected_sample('mmdet', checkpoints, file)
    assert result['scores'] == pytest.approx(
        sample.pred_instances.scores.tolist(), abs=1e-5
    )


def test_recogniser_inferencer_of_mmaction(files, checkpoints):
    from mmaction.apis import ActionRecogInferencer

    path, cfg, _ = checkpoints['mmaction']
    file = files / 'mmaction/a.mp4'
    inferencer = ActionRecogInferencer(cfg, str(path), 'cpu')
    (result,) = inferencer(str(file))['predictions']
    sample = expected_sample('mmaction', checkpoints, file)
    assert result['pred_scores'] == pytest.approx(
        sample.pred_score.tolist(), abs=1e-5
    )
