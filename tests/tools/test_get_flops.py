"""The tool end to end; tests/analysis/test_flops.py checks the numbers."""

from demos import CONFIGS


def test_command(run_tool, tmp_path):
    config = CONFIGS / 'r18_cgnl_digits.py'
    done = run_tool('get_flops.py', config, cwd=tmp_path)
    assert 'one input of 3 x 32 x 32\n' in done.stdout  # of the data set
    done = run_tool('get_flops.py', config, '--shape', 64, 32, cwd=tmp_path)
    assert 'one input of 3 x 64 x 32\n' in done.stdout
    *_, block, whole = done.stdout.split('\n\n')[1].splitlines()
    params = 64 * 32 * 3 + 64 * 32 // 8 + 2 * 64
    assert block.split()[1:5] == [
        'CGNL2d', 'layer3.0', '64x4x2', f'{params / 1e6:.3f}',
    ]  # fmt: skip
    assert whole.startswith('all ') and whole.endswith(' 100.00%')


def test_network_of_another_host(run_tool, tmp_path):
    config = CONFIGS / 'fcn_r50_cgnl_cityscapes.py'
    done = run_tool('get_flops.py', config, '--shape', 32, 64, cwd=tmp_path)
    assert done.stdout.count(' 1024x4x8 ') == 6
