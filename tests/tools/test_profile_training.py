"""profile_training.py: what it times, on real mp4 files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/i3d_r18_cgnl_movingdigits.py')
SMALL = ['--clips', '1', '--rounds', '1', '--steps', '1', '--batch', '2']
CLIP = ['--seconds', '1', '--size', '64', '64']


def rows(text):
    """Milliseconds by name, of both tables."""
    line = r'^\| ([\w, ]+?) +\| ([\d.]+) +\| (\d+)% +\|$'
    found = re.findall(line, text, re.M)
    return {name: (float(ms), int(share)) for name, ms, share in found}


def test_every_transform_and_part_has_a_row(run_tool, tmp_path):
    done = run_tool('profile_training.py', CONFIG, *SMALL, *CLIP, cwd=tmp_path)
    out = done.stdout
    found = rows(out)
    assert list(found)[:2] == ['VideoInit', 'SampleFrames']
    assert list(found)[-4:] == [
        'transfer, normalisation', 'forward', 'backward', 'optimizer',
    ]  # fmt: skip
    assert found['VideoDecode'][0] > 0 and found['forward'][0] > 0
    for part in (list(found)[:-4], list(found)[-4:]):
        assert abs(sum(found[name][1] for name in part) - 100) <= len(part)
    network, worker = re.search(
        r'takes ([\d.]+) ms a clip, a worker ([\d.]+) ms', out
    ).groups()
    totals = [float(ms) for ms in re.findall(r'\| all +\| ([\d.]+) +\|', out)]
    assert totals[0] == pytest.approx(float(worker), abs=0.2)
    assert totals[1] / 2 == pytest.approx(float(network), abs=0.2)


@pytest.mark.parametrize('options, message', [
    ([ROOT / 'configs/r18_digits.py'], 'is not a config of mmaction2'),
    ([CONFIG, '--size', '63', '64'], '--size must be even'),
    ([CONFIG, '--clips', '0'], '--clips must be positive, got 0'),
])  # fmt: skip
def test_wrong_options(run_tool, options, message, tmp_path):
    done = run_tool('profile_training.py', *options, cwd=tmp_path, status=2)
    assert message in done.stderr
