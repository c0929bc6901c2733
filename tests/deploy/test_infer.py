"""Predictions for real files of the three hosts, some of them broken."""

import json
import shutil
import sys
from copy import deepcopy
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from demos import trained
from mmaction.apis import ActionRecogInferencer
from mmdet.apis import DetInferencer
from mmengine.structures import InstanceData
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from cgnl_mm.cli import load_config
from cgnl_mm.datasets.digit_scenes import prepare_digit_scenes
from cgnl_mm.datasets.moving_digits import prepare_moving_digits
from cgnl_mm.deploy import infer as module
from cgnl_mm.deploy.infer import infer
from cgnl_mm.deploy.model import build_model
from cgnl_mm.errors import SetupError

NAMES = dict(
    mmpretrain='r18_cgnl_digits',
    mmaction='i3d_r18_cgnl_movingdigits',
    mmdet='mask_rcnn_r18_fpn_cgnl_digitscenes',
)
CLASSES = [f'class {i}' for i in range(10)]


@pytest.fixture(scope='session')
def files(once):
    """Three files for each host, in a folder and in one below."""

    def make(folder):
        small = dict(num_train=1, num_test=2)
        prepare_moving_digits(str(folder / 'videos'), **small)
        prepare_digit_scenes(str(folder / 'scenes'), **small)
        videos = sorted(folder.glob('videos/videos/*.mp4'))
        images = sorted(folder.glob('scenes/t*/*.png'))
        for host in NAMES:
            paths = videos if host == 'mmaction' else images
            (folder / host / 'sub').mkdir(parents=True)
            for name, path in zip(('a', 'b', 'sub/c'), paths, strict=True):
                shutil.copy(path, folder / host / f'{name}{path.suffix}')

    return once('infer', make)


@pytest.fixture(scope='module')
def networks():
    """The network of each host as if it were trained, and its config."""
    made = {}
    for host, name in NAMES.items():
        torch.manual_seed(0)
        cfg, model = trained(name)
        model.dataset_meta = dict(classes=CLASSES)
        if host == 'mmdet':  # else everything is background
            model.roi_head.bbox_head.fc_cls.bias.data[1] = 4
        made[host] = model, cfg
    return made


@pytest.fixture
def predict(networks):
    """Predict here; return the records that are written."""

    def run(host, path, out, *options):
        infer(*networks[host], path, out, *options)
        return json.loads((out / 'predictions.json').read_text())

    return run


INFERENCERS = dict(
    mmpretrain=ImageClassificationInferencer,
    mmdet=DetInferencer,
    mmaction=ActionRecogInferencer,
)


@pytest.fixture
def expected(networks, tmp_path):
    """Predict by the host's own inferencer: label, score and box, if any."""

    def rows(labels, scores, bboxes=None):
        return list(zip(labels, scores, bboxes or [[]] * len(labels)))

    def run(host, *files):
        model, cfg = networks[host]
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
        weights = str(tmp_path / 'a.pth')
        theirs = INFERENCERS[host](deepcopy(cfg), weights, 'cpu')
        found = theirs([str(file) for file in files])
        if host == 'mmdet':
            return [
                rows(x['labels'], x['scores'], x['bboxes'])
                for x in found['predictions']
            ]
        found = found if host == 'mmpretrain' else found['predictions']
        scores = torch.tensor(np.array([x['pred_scores'] for x in found]))
        values, labels = scores.topk(5)
        return list(map(rows, labels.tolist(), values.tolist()))

    return run


def check(record, expected):
    entries = record.get('top') or record['objects']
    for entry, (label, score, box) in zip(entries, expected, strict=True):
        assert (entry['label'], entry['name']) == (label, CLASSES[label])
        assert entry['score'] == pytest.approx(score, abs=1e-5)
        assert entry.get('box', []) == pytest.approx(box, abs=0.01)


@pytest.mark.parametrize('host', NAMES)
def test_folder(predict, capsys, files, expected, host, tmp_path):
    """Predictions as the host's, a picture each, subfolders kept."""
    folder = files / host
    records = predict(host, folder, tmp_path, 0.0)
    names = [Path(record['file']).relative_to(folder) for record in records]
    stems = [name.with_suffix('').as_posix() for name in names]
    assert stems == ['a', 'b', 'sub/c']
    theirs = expected(host, *(folder / name for name in names))
    for name, record, rows in zip(names, records, theirs, strict=True):
        check(record, rows)
        target = tmp_path / f'pictures/{name}.png'
        picture = matplotlib.image.imread(target)
        assert np.unique(picture[..., :3].reshape(-1, 3), axis=0).size > 100
    assert '3 predicted, 0 unreadable' in capsys.readouterr().out


def test_score_threshold(predict, files, expected, tmp_path):
    file = files / 'mmdet/a.png'
    (rows,) = expected('mmdet', file)
    scores = sorted(score for _, score, _ in rows)
    between = (scores[2] + scores[3]) / 2
    (record,) = predict('mmdet', file, tmp_path, between)
    assert len(record['objects']) > 2
    check(record, [row for row in rows if row[1] >= between])


@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet'])
def test_red_stays_red(predict, host, tmp_path):
    """Files are decoded to BGR, pictures are RGB."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    matplotlib.image.imsave(tmp_path / 'a.png', red)
    predict(host, tmp_path / 'a.png', tmp_path, 0.999)
    picture = matplotlib.image.imread(tmp_path / 'pictures/a.png.png')[..., :3]
    assert (abs(picture - (1, 0, 0)).max(-1) < 0.05).sum() > 1000
    assert (abs(picture - (0, 0, 1)).max(-1) < 0.05).sum() == 0


@pytest.mark.parametrize('host', NAMES)
def test_broken_files_are_counted_and_the_rest_goes_on(
    predict, capsys, files, host, tmp_path
):
    folder = tmp_path / 'files'
    shutil.copytree(files / host, folder)
    good = sorted(folder.glob('b.*'))[0]
    suffix = good.suffix
    (folder / f'empty{suffix}').touch()
    (folder / f'half{suffix}').write_bytes(good.read_bytes()[:60])
    (folder / f'text{suffix}').write_text('not a picture')
    (folder / 'readme.txt').touch()
    records = predict(host, folder, tmp_path / 'out')
    printed = capsys.readouterr()
    assert '3 predicted, 3 unreadable' in printed.out
    failed = [Path(r['file']).stem for r in records if 'error' in r]
    assert failed == ['empty', 'half', 'text']
    assert printed.err.count('unreadable: ') == 3
    assert len(list((tmp_path / 'out/pictures').rglob('*.png'))) == 3


@pytest.mark.parametrize('host, suffix', [
    ('mmpretrain', '.gif'), ('mmpretrain', '.avif'), ('mmaction', '.gif')
])  # fmt: skip
def test_gif_and_avif_are_read(
    predict, capsys, monkeypatch, host, suffix, tmp_path
):
    monkeypatch.setitem(sys.modules, 'decord', None)  # it reads no gif
    still = Image.effect_noise((32, 32), 90)
    frames = [still.rotate(90 * turn) for turn in range(16)]
    still.save(tmp_path / f'a{suffix}', save_all=True, append_images=frames)
    (tmp_path / 'b.svg').touch()
    (record,) = predict(host, tmp_path, tmp_path / 'out')
    assert len(record['top']) == 5
    assert '1 predicted, 0 unreadable' in capsys.readouterr().out


def test_records_are_written_as_they_come(
    predict, files, monkeypatch, tmp_path
):
    """An interrupted run leaves a whole list of what it has done."""
    told, load = [], module.load_sample

    def interrupt(cfg, file):
        if len(told) == 2:
            raise KeyboardInterrupt
        told.append(file)
        return load(cfg, file)

    monkeypatch.setattr(module, 'load_sample', interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict('mmpretrain', files / 'mmpretrain', tmp_path)
    records = json.loads((tmp_path / 'predictions.json').read_text())
    assert [record['file'] for record in records] == list(map(str, told))


def test_small_scene_is_drawn_large():
    image = np.full((128, 96, 3), 255, np.uint8)
    masks = torch.zeros(2, 128, 96, dtype=torch.bool)
    masks[0, 2:10, 5:20] = masks[1, 60:80, 30:50] = True
    boxes = [5.0, 2, 20, 10], [30.0, 60, 50, 80]
    objects = [dict(name='a', score=0.5, box=box) for box in boxes]
    fig = module.draw_objects(image, objects, InstanceData(masks=masks))
    assert max(fig.get_size_inches() * fig.dpi) == pytest.approx(640)
    (axes,) = fig.axes
    _, layer = axes.images
    assert np.array_equal(layer.get_array()[..., 3] > 0, masks.any(0))
    for box, text, patch in zip(boxes, axes.texts, axes.patches):
        assert patch.get_bbox().extents.tolist() == box
        assert text.get_position() == tuple(box[:2])
        assert (text.get_va(), text.get_text()) == ('bottom', 'a: 50.0%')


@pytest.mark.parametrize('path, message', [
    ('text.png', 'nothing in .* could be read'),
    ('nowhere', "no file or folder '.*nowhere'"),
    ('clips', r'ends in .*\.jpg.*which this config'),
])  # fmt: skip
def test_nothing_to_predict(predict, tmp_path, path, message):
    (tmp_path / 'text.png').write_text('no')
    (tmp_path / 'clips').mkdir()
    (tmp_path / 'clips/clip.mp4').touch()
    with pytest.raises(SetupError, match=message):
        predict('mmpretrain', tmp_path / path, tmp_path / 'out')


def test_pictures_of_an_earlier_run_are_not_read(predict, files, tmp_path):
    shutil.copytree(files / 'mmpretrain', tmp_path / 'images')
    for _ in range(2):
        out = tmp_path / 'images/out'
        assert len(predict('mmpretrain', tmp_path / 'images', out)) == 3


@pytest.mark.parametrize('host', NAMES)
def test_pure_python_config(files, host, tmp_path):
    cfg = load_config(Path(__file__).with_name(f'pure_{host}.py'))
    infer(build_model(cfg, None), cfg, files / host, tmp_path, 0.0)
    records = json.loads((tmp_path / 'predictions.json').read_text())
    assert all(record.get('top') or record['objects'] for record in records)
