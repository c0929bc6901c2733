"""The tool end to end; tests/analysis/test_flops.py checks the numbers."""

import json

from demos import CONFIGS


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
    assert 'after layer3.0' in line and '64x4x2' in line


def test_network_of_another_host(run_tool, tmp_path):
    config = CONFIGS / 'fcn_r50_cgnl_cityscapes.py'
    options = '--shape', 32, 64, '--json'
    done = run_tool('get_flops.py', config, *options, cwd=tmp_path)
    shapes = [row['shape'] for row in json.loads(done.stdout)['blocks']]
    assert shapes == 6 * [[1024, 4, 8]]
