"""Check what is enough: PyTorch for the block; MMEngine, mmcv for configs."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def needed(name, extras=(), seen=None):
    """Name a distribution and all that it requires."""
    seen = set() if seen is None else seen
    try:
        texts = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for child in map(Requirement, texts):
        asked = child.marker is None or any(
            child.marker.evaluate({'extra': extra}) for extra in ('', *extras)
        )
        if asked and (child.extras or child.name not in seen):
            needed(child.name, child.extras, seen)
    return seen


def make_packages(folder, *names):
    """Make a folder of packages, what they require and ours."""
    folder.mkdir()
    for name in set().union(*map(needed, names)):
        files = metadata.files(name)
        for top in {file.parts[0] for file in files} - {'..', '__pycache__'}:
            link = folder / top
            if not link.exists():  # nvidia/ and cuda/ are shared
                link.symlink_to(metadata.distribution(name).locate_file(top))
    (folder / 'cgnl_mm').symlink_to(ROOT / 'cgnl_mm')


def run(folder, code):
    """Run code with the packages of a folder alone; return what it prints."""
    done = subprocess.run(
        [sys.executable, '-S', '-c', QUIET + code],  # -S: no site-packages
        cwd=folder.parent,
        env={**os.environ, 'PYTHONPATH': str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


QUIET = """
import importlib.util, warnings
warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
# PyTorch says so itself.
warnings.filterwarnings('ignore', 'Failed to initialize NumPy')
# tests/ops/test_torch_versions.py looks at an old PyTorch.
warnings.filterwarnings('ignore', 'PyTorch .* works with cgnl_mm')
"""
CODE = """
for name in ('mmaction', 'mmdet', 'mmpretrain', 'mmseg', 'torchvision'):
    assert importlib.util.find_spec(name) is None, name
import cgnl_mm
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.registry import MODELS

for rank in (1, 2, 3):
    x = torch.randn(2, 16, *(4,) * rank)
    block = MODELS.build(dict(type=f'CGNL{rank}d', in_channels=16))
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.norm.weight.grad.abs().max() > 0
cfg = dict(type='CGNL2d', groups=4)
name, _ = build_plugin_layer(cfg, in_channels=16)
print(name)
assert MODELS.get('NonLocal3d') is not None
print(cgnl_mm.compat.report())
"""
ALONE = """
import cgnl_mm
from cgnl_mm import *
assert not hasattr(cgnl_mm, 'CGNL4d')
for kind in ('GN', 'BN', 'IN', 'SyncBN'):
    options = dict(affine=True) if kind == 'IN' else {}
    block = CGNL1d(16, norm_cfg=dict(type=kind, **options)).eval()
    block.load_state_dict(CGNL1d(16, norm_cfg=block.norm_cfg).state_dict())
    x = torch.randn(2, 16, 5)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.norm.weight.grad.abs().max() > 0, kind
print(cgnl_mm.compat.report())
"""


@pytest.mark.starts('the packages of this environment may not be found')
def test_blocks_learn_and_no_word_is_said_of_the_hosts(tmp_path):
    (mmcv,) = metadata.packages_distributions()['mmcv']
    make_packages(tmp_path / 'packages', 'mmengine', mmcv, 'torch')
    printed = run(tmp_path / 'packages', CODE)
    assert printed.startswith('cgnl')
    assert 'flexible_runner: applied' in printed


@pytest.mark.starts('the packages of this environment may not be found')
def test_description_runs_with_pytorch_alone(tmp_path):
    make_packages(tmp_path / 'packages', 'torch')
    text = (ROOT / 'DESCRIPTION.md').read_text('utf-8')
    (code,) = re.findall('^```python\n(.*?)^```$', text, re.M | re.S)
    printed = run(tmp_path / 'packages', code + ALONE)
    assert 'safe_load: not needed (mmengine is not installed)' in printed
    assert ': applied' not in printed
