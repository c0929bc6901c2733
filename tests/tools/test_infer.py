"""infer.py on real files of the three hosts, some of them broken."""

import importlib.util
import json
import shutil
import sys
from importlib import import_module
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.registry import init_default_scope

from cgnl_mm.datasets.digit_scenes import prepare_digit_scenes
from cgnl_mm.datasets.digits import prepare_digits
from cgnl_mm.datasets.moving_digits import prepare_moving_digits

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
CONFIGS = dict(
    mmpretrain='r18_cgnl_digits',
    mmaction='i3d_r18_cgnl_movingdigits',
    mmdet='mask_rcnn_r18_fpn_cgnl_digitscenes',
)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ('_common', '_model', '_infer_hosts'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location('infer', TOOLS / 'infer.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'infer', module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Three files for each host, in a folder and in one below."""
    folder = tmp_path_factory.mktemp('files')
    data = tmp_path_factory.mktemp('data')
    prepare_digits(str(data / 'digits'), size=32)
    prepare_moving_digits(
        str(data / 'clips'), num_train=1, num_test=2, size=32, num_frames=16,
        stand=0.125, seed=0,
    )  # fmt: skip
    prepare_digit_scenes(
        str(data / 'scenes'), num_train=1, num_test=2, size=128,
        max_digits=6, seed=0,
    )  # fmt: skip
    found = dict(
        mmpretrain=sorted((data / 'digits/test').rglob('*.png'))[::100][:3],
        mmaction=sorted((data / 'clips').rglob('*.mp4')),
        mmdet=sorted((data / 'scenes').rglob('*.png')),
    )
    for host, paths in found.items():
        assert len(paths) == 3
        (folder / host / 'sub').mkdir(parents=True)
        for name, path in zip(('a', 'b', 'sub/c'), paths):
            shutil.copy(path, folder / host / f'{name}{path.suffix}')
    return folder


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Weights of each host's network as a training saves them."""
    folder = tmp_path_factory.mktemp('weights')
    made = {}
    for host, name in CONFIGS.items():
        torch.manual_seed(0)
        cfg = Config.fromfile(ROOT / f'configs/{name}.py')
        init_default_scope(host)
        model = import_module(f'{host}.registry').MODELS.build(cfg.model)
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                if 'cgnl_' in key:
                    tensor.normal_(0, 0.3)
                # else everything is background
                if key.endswith('fc_cls.bias'):
                    tensor[1] = 4
        classes = [f'class {i}' for i in range(10)]
        torch.save(
            dict(
                state_dict=model.state_dict(),
                meta=dict(dataset_meta=dict(classes=classes)),
            ),
            folder / f'{host}.pth',
        )
        model.eval()
        made[host] = folder / f'{host}.pth', cfg, model
    return made


def infer(tool, monkeypatch, checkpoints, host, path, out, *options):
    argv = [
        'infer.py', ROOT / f'configs/{CONFIGS[host]}.py',
        checkpoints[host][0], path, '--out', out, '--device', 'cpu', *options,
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', list(map(str, argv)))
    try:
        tool.main()
    finally:
        target = out / 'predictions.json'
        records = target.is_file() and json.loads(target.read_text())
    return records


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


@pytest.mark.parametrize('host', CONFIGS)
def test_folder(tool, monkeypatch, capsys, files, checkpoints, host, tmp_path):
    """Predictions of the test protocol, a picture each, subfolders kept."""
    folder = files / host
    records = infer(tool, monkeypatch, checkpoints, host, folder, tmp_path)
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


def test_score_threshold(tool, monkeypatch, files, checkpoints, tmp_path):
    file = files / 'mmdet/a.png'
    sample = expected_sample('mmdet', checkpoints, file)
    scores = sample.pred_instances.scores.sort().values
    assert len(scores) > 5
    between = (scores[2] + scores[3]).item() / 2
    options = '--score-thr', between, '--no-pictures'
    (record,) = infer(
        tool, monkeypatch, checkpoints, 'mmdet', file, tmp_path, *options
    )
    assert len(record['objects']) == len(scores) - 3
    assert not (tmp_path / 'pictures').exists()


@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet'])
def test_red_stays_red(tool, monkeypatch, checkpoints, host, tmp_path):
    """Files are decoded to BGR, pictures are RGB."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    matplotlib.image.imsave(tmp_path / 'a.png', red)
    options = '--score-thr', 0.999
    infer(
        tool, monkeypatch, checkpoints, host, tmp_path / 'a.png', tmp_path,
        *options,
    )  # fmt: skip
    picture = matplotlib.image.imread(tmp_path / 'pictures/a.png')[..., :3]
    assert (abs(picture - (1, 0, 0)).max(-1) < 0.05).sum() > 1000
    assert (abs(picture - (0, 0, 1)).max(-1) < 0.05).sum() == 0


@pytest.mark.parametrize('host', CONFIGS)
def test_broken_files_are_counted_and_the_rest_goes_on(
    tool, monkeypatch, capsys, files, checkpoints, host, tmp_path
):
    folder = tmp_path / 'files'
    shutil.copytree(files / host, folder)
    good = sorted(folder.glob('b.*'))[0]
    suffix = good.suffix
    (folder / f'empty{suffix}').touch()
    (folder / f'half{suffix}').write_bytes(good.read_bytes()[:60])
    (folder / f'text{suffix}').write_text('not a picture')
    (folder / 'readme.txt').touch()  # nobody's business
    records = infer(
        tool, monkeypatch, checkpoints, host, folder, tmp_path / 'out'
    )
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


def test_nothing_readable_is_an_error(
    tool, monkeypatch, checkpoints, tmp_path
):
    from _common import setup_message

    (tmp_path / 'a.png').write_text('no')
    with pytest.raises(Exception, match='nothing in .* could be') as caught:
        infer(
            tool, monkeypatch, checkpoints, 'mmpretrain',
            tmp_path / 'a.png', tmp_path / 'out',
        )  # fmt: skip
    assert setup_message(caught.value)


@pytest.mark.parametrize('path, message', [
    ('nowhere', "no file or folder '.*nowhere'"),
    ('', r'ends in .*\.png.*which this config'),
])  # fmt: skip
def test_no_input(tool, monkeypatch, checkpoints, tmp_path, path, message):
    (tmp_path / 'clip.mp4').touch()
    with pytest.raises(Exception, match=message):
        infer(
            tool, monkeypatch, checkpoints, 'mmpretrain', tmp_path / path,
            tmp_path / 'out',
        )  # fmt: skip


def test_pictures_of_an_earlier_run_are_no_input(
    tool, monkeypatch, capsys, files, checkpoints, tmp_path
):
    shutil.copytree(files / 'mmpretrain', tmp_path / 'images')
    for _ in range(2):
        infer(
            tool, monkeypatch, checkpoints, 'mmpretrain',
            tmp_path / 'images', tmp_path / 'images/out',
        )  # fmt: skip
        told = capsys.readouterr().out
        assert '3 predicted, 0 unreadable' in told


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
        *(ROOT / 'configs/r18_cgnl_digits.py', checkpoints['mmpretrain'][0]),
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
