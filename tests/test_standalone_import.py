"""Check that mmengine, an mmcv and PyTorch are enough for the blocks."""

import os
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


@pytest.fixture
def packages(tmp_path):
    """Make a folder of mmengine, mmcv, torch, what they require and ours."""
    folder = tmp_path / 'packages'
    folder.mkdir()
    (mmcv,) = metadata.packages_distributions()['mmcv']
    for name in set().union(*map(needed, ('mmengine', mmcv, 'torch'))):
        files = metadata.files(name)
        for top in {file.parts[0] for file in files} - {'..', '__pycache__'}:
            link = folder / top
            if not link.exists():  # nvidia/ and cuda/ are shared
                link.symlink_to(metadata.distribution(name).locate_file(top))
    (folder / 'cgnl_mm').symlink_to(ROOT / 'cgnl_mm')
    return folder


CODE = """
import importlib.util, warnings
warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
# tests/ops/test_torch_versions.py looks at an old PyTorch.
warnings.filterwarnings('ignore', 'PyTorch .* works with cgnl_mm')
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


@pytest.mark.starts('the packages of this environment may not be found')
def test_blocks_learn_and_no_word_is_said_of_the_hosts(packages):
    done = subprocess.run(
        [sys.executable, '-S', '-c', CODE],  # -S: no site-packages
        cwd=packages.parent,
        env={**os.environ, 'PYTHONPATH': str(packages)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('cgnl')
    assert 'flexible_runner: applied' in done.stdout
