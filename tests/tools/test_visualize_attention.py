"""The tool on checkpoints of the demos, one of them really trained."""

import csv

import numpy as np
import pytest
from demos import CONFIGS
from PIL import Image

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


def picture(path):
    return np.asarray(Image.open(path).convert('RGB')).astype(int)


def test_picture_of_a_classifier_shows_the_groups_asked_for(
    visualize, digit, tmp_path
):
    printed = visualize(
        'r18_cgnl_digits',
        *(digit, '--point', '30,2', '--groups', 5),
        *('--block', 'layer3.cgnl_0', '--out', tmp_path),
    )
    (file,) = tmp_path.iterdir()
    assert printed.split()[-1] == str(file)
    assert file.name == f'{BLOCK}.png'
    # two panels are wider than high, nine would not be
    height, width = picture(file).shape[:2]
    assert width > 1.5 * height
    # the attention is in colour, the digit is not
    pixels = picture(file)
    assert (np.ptp(pixels, -1) > 60).mean() > 0.02


def test_film_of_a_recogniser_has_a_picture_a_frame(visualize, demo, tmp_path):
    import av

    video = sorted((demo / 'data/movingdigits/videos').glob('test*.mp4'))[0]
    visualize(
        'i3d_r18_cgnl_movingdigits',
        *(video, '--point', '30,24,3', '--groups', 0, 7, '--out', tmp_path),
    )
    ends = ('.png', '_frames.png', '.mp4', '.gif')
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {BLOCK + end for end in ends}
    with av.open(str(tmp_path / f'{BLOCK}.mp4')) as film:
        frames = [f.to_ndarray(format='rgb24') for f in film.decode(video=0)]
    assert len(frames) == 8  # clip_len
    assert Image.open(tmp_path / f'{BLOCK}.gif').n_frames == 8
    # the fourth is the still picture, to the codec's loss and the colours'
    # scale, which is the clip's in the film and the frame's own in the still
    still = picture(tmp_path / f'{BLOCK}.png')
    height, width = frames[3].shape[:2]
    errors = [np.abs(f - still[:height, :width]).mean() for f in frames]
    assert np.argmin(errors) == 3 and errors[3] < 8


def test_picture_of_a_detector(visualize, demo, tmp_path):
    image = sorted((demo / 'data/digitscenes/test').glob('*.png'))[0]
    visualize('mask_rcnn_r18_fpn_nl_digitscenes', image, '--out', tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name == 'backbone.layer3.nonlocal_block_0.png'


def test_page_takes_the_place_of_the_pictures(visualize, digit, tmp_path):
    page = tmp_path / 'pages/a.html'
    printed = visualize('r18_cgnl_digits', digit, '--html', page)
    assert printed.split()[-1] == str(page)
    assert BLOCK in page.read_text()


def test_statistics_of_the_test_data(visualize, tmp_path):
    printed = visualize('r18_cgnl_digits', '--dataset', 70, '--out', tmp_path)
    with open(tmp_path / f'{BLOCK}_groups.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    values = np.array([float(row['factor']) for row in rows]).reshape(70, 8)
    assert {row['power'] for row in rows} == {'1'}
    assert (tmp_path / f'{BLOCK}_groups.png').is_file()
    table = [line.split() for line in printed.splitlines()]
    table = [line for line in table if len(line) == 5 and line[0] == '1']
    assert [float(line[2]) for line in table] == pytest.approx(
        values.mean(0), rel=5e-3
    )
    assert [line[4] for line in table] == [
        f'{share:.1%}' for share in (values > 0).mean(0)
    ]


@pytest.fixture
def refusal(demo, monkeypatch, message_of):
    """``refusal(*options)``: the line that ends the tool, run here."""
    monkeypatch.chdir(demo)

    def run(*options, config=CONFIG, checkpoint=CHECKPOINT):
        return message_of('visualize_attention', config, checkpoint, *options)

    return run


@pytest.mark.parametrize('options, message', [
    (['--block', 'layer3.cgnl_9'], f'it has {BLOCK}'),
    (['--point', '3,4,1'], 'the network gets 1 frame'),
    (['--groups', '8'], f'{BLOCK} has the groups 0 to 7'),
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
