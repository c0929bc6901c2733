"""The tool on checkpoints of the demos, one of them really trained."""

import numpy as np
import pytest
import torch
from demos import CONFIGS
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from PIL import Image, ImageSequence

from cgnl_mm.deploy.model import build_model
from cgnl_mm.visualization import find_blocks, group_factors
from cgnl_mm.visualization.inputs import look

BLOCK = 'backbone.layer3.cgnl_0'
CONFIG = CONFIGS / 'r18_cgnl_digits.py'
CHECKPOINT = 'r18_cgnl_digits.pth'


@pytest.fixture
def visualize(demo, run_tool):
    """Run the tool on a demo's checkpoint, where its data are."""

    def run(name, *options):
        return run_tool(
            'visualize_attention.py',
            *(CONFIGS / f'{name}.py', f'{name}.pth', *options),
            cwd=demo,
        ).stdout

    return run


@pytest.fixture
def digit(demo):
    return sorted((demo / 'data/digits/test/3').iterdir())[0]


def test_picture_of_a_classifier(visualize, digit, tmp_path):
    printed = visualize(
        'r18_cgnl_digits',
        *(digit, '--point', '30,2', '--block', 'layer3.cgnl_0'),
        *('--out', tmp_path),
    )
    (file,) = tmp_path.iterdir()
    assert printed.split()[-1] == str(file)
    assert file.name == f'{BLOCK}.png'
    # the attention is in colour, the digit is not
    pixels = np.asarray(Image.open(file)).astype(int)
    assert (np.ptp(pixels, -1) > 60).mean() > 0.02


def test_film_of_a_recogniser_has_a_picture_a_frame(visualize, demo, tmp_path):
    video = sorted((demo / 'data/movingdigits/videos').glob('test*.mp4'))[0]
    visualize(
        'i3d_r18_cgnl_movingdigits',
        *(video, '--point', '30,24,3', '--out', tmp_path),
    )
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {BLOCK + end for end in ('.png', '.gif')}
    film = Image.open(tmp_path / f'{BLOCK}.gif')
    assert film.n_frames == 8  # clip_len
    # the fourth is the still picture, but for the number of colours
    still = np.asarray(Image.open(tmp_path / f'{BLOCK}.png')).astype(int)
    frames = [f.convert('RGB') for f in ImageSequence.Iterator(film)]
    errors = [np.abs(np.asarray(f) - still).mean() for f in frames]
    assert np.argmin(errors) == 3 and errors[3] < 3


def test_picture_of_a_detector(visualize, demo, tmp_path):
    image = sorted((demo / 'data/digitscenes/test').glob('*.png'))[0]
    visualize('mask_rcnn_r18_fpn_cgnl_digitscenes', image, '--out', tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == ['.png']


def test_page_takes_the_place_of_the_pictures(visualize, digit, tmp_path):
    page = tmp_path / 'pages/a.html'
    printed = visualize('r18_cgnl_digits', digit, '--html', page)
    assert printed.split()[-1] == str(page)
    assert BLOCK in page.read_text()


def test_statistics_of_the_test_data(visualize, demo, monkeypatch):
    """Of two batches, against one sample at a time."""
    every = visualize('r18_cgnl_digits', '--dataset')
    assert f'{BLOCK}, power 1 of theta, 450 samples' in every
    printed = visualize('r18_cgnl_digits', '--dataset', 70)
    assert f'{BLOCK}, power 1 of theta, 70 samples' in printed
    monkeypatch.chdir(demo)
    cfg = Config.fromfile(CONFIG)
    model = build_model(cfg, CHECKPOINT)
    blocks = find_blocks(model)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    seen = [look(model, cfg, blocks, data[i]).blocks[BLOCK] for i in range(70)]
    values = group_factors(blocks[BLOCK], torch.cat(seen))[1].numpy()
    table = [line.split() for line in printed.splitlines()[-8:]]
    for at, expected in ((1, values.mean(0)), (2, values.std(0))):
        found = [float(line[at]) for line in table]
        assert found == pytest.approx(expected, rel=1e-2)
    shares = [f'{share:.1%}' for share in (values > 0).mean(0)]
    assert [line[3] for line in table] == shares


@pytest.fixture
def refusal(demo, monkeypatch, message_of):
    """``refusal(*options)``: the line that ends the tool, run here."""
    monkeypatch.chdir(demo)

    def run(*options, config=CONFIG, checkpoint=CHECKPOINT):
        return message_of('visualize_attention', config, checkpoint, *options)

    return run


@pytest.mark.parametrize('options, message', [
    (['--block', 'layer3.cgnl_9'], f'it has {BLOCK}'),
    (['--point', '3,4,1'], 'gets 32 x 32 pixels (x 0 to 31, y 0 to 31) and 1'),
    (['--point', '32,4'], '--point 32,4 is outside: the network gets 32 x 32'),
    (['--device', 'gpu'], '--device gpu: '),
    (['--device', 'cuda:99'], '--device cuda:99: '),
])  # fmt: skip
def test_options_that_do_not_fit(digit, refusal, options, message):
    assert message in refusal(digit, *options)


def test_files_that_are_not_there(digit, refusal, tmp_path):
    assert "no file 'nothing.png'" in refusal('nothing.png')
    assert 'is not a folder' in refusal(digit, '--out', digit)
    (tmp_path / 'a.pth').write_text('a note')
    error = refusal(digit, checkpoint=tmp_path / 'a.pth')
    assert "a.pth' cannot be read" in error
