"""The tool end to end; tests/analysis/test_flops.py checks the numbers."""

import json

import pytest
from demos import CONFIGS
from mmengine.config import Config

from cgnl_mm.deploy.model import input_shape


def test_command(run_tool, tmp_path):
    config = CONFIGS / 'r18_cgnl_digits.py'
    done = run_tool('get_flops.py', config, '--json', cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result['shape'] == [32, 32]  # of the data set
    (block,) = result['blocks']
    assert block['params'] == 64 * 32 * 3 + 64 * 32 // 8 + 2 * 64
    done = run_tool('get_flops.py', config, '--shape', 64, 32, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert 'one input of 3 x 64 x 32' in lines[0]
    (line,) = [line for line in lines if 'cgnl_0' in line]
    assert 'layer3, after unit 0' in line and '64x4x2' in line


def test_network_of_another_host(run_tool, tmp_path):
    config = CONFIGS / 'fcn_r50_cgnl_cityscapes.py'
    options = '--shape', 32, 64, '--json'
    done = run_tool('get_flops.py', config, *options, cwd=tmp_path)
    shapes = [row['shape'] for row in json.loads(done.stdout)['blocks']]
    assert shapes == 6 * [[1024, 4, 8]]


@pytest.mark.parametrize('name, options, message', [
    ('r18_digits', ('--shape', 8, 32, 32), '--shape takes H W'),
    ('i3d_r18_movingdigits', ('--shape', 32, 32), '--shape takes T H W'),
    ('r18_digits', ('--cfg-options', 'model'), 'takes KEY=VALUE'),
])  # fmt: skip
def test_wrong_use(message_of, name, options, message):
    assert message in message_of('get_flops', CONFIGS / f'{name}.py', *options)


@pytest.mark.parametrize('name, shape', [
    ('r50_cgnl_cub', (448, 448)),
    ('i3d_r50_cgnl_minikinetics', (32, 256, 256)),
    ('mask_rcnn_r50_fpn_cgnl_coco', (800, 1333)),
    ('i3d_r18_cgnl_movingdigits', (8, 64, 64)),
    ('mask_rcnn_r18_fpn_cgnl_digitscenes', (128, 128)),
])  # fmt: skip
def test_shape_by_default_is_that_of_the_test_pipeline(name, shape):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert input_shape(cfg, None) == shape
