"""mmengine, an mmcv and PyTorch are enough for the blocks."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LEFT_OUT = ('mmaction', 'mmdet', 'mmpretrain', 'mmseg', 'torchvision')


def needed(*names):
    """Names of these distributions and of all that they require."""
    seen, waiting = set(), [Requirement(name) for name in names]
    found = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            texts = metadata.requires(requirement.name) or ()
        except metadata.PackageNotFoundError:
            continue
        found.add(requirement.name)
        for text in texts:
            child = Requirement(text)
            if child.marker is None or any(
                child.marker.evaluate({'extra': extra})
                for extra in ('', *requirement.extras)
            ):
                waiting.append(child)
    return found


@pytest.fixture
def packages(tmp_path):
    """A folder with mmengine, mmcv, torch, what they require and cgnl_mm."""
    folder = tmp_path / 'packages'
    folder.mkdir()
    (mmcv,) = metadata.packages_distributions()['mmcv']
    for name in needed('mmengine', mmcv, 'torch'):
        files = metadata.files(name)
        for top in {file.parts[0] for file in files} - {'..', '__pycache__'}:
            link = folder / top
            if not link.exists():  # nvidia/ and cuda/ are shared
                link.symlink_to(metadata.distribution(name).locate_file(top))
    (folder / 'cgnl_mm').symlink_to(ROOT / 'cgnl_mm')
    return folder


CODE = f"""
import importlib.util, warnings
warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
# of an old one, in tests/ops/test_torch_versions.py
warnings.filterwarnings('ignore', 'PyTorch .* works with cgnl_mm')
for name in {LEFT_OUT}:
    assert importlib.util.find_spec(name) is None, name
import cgnl_mm
import torch
from mmcv.cnn import build_plugin_layer
from mmengine.registry import MODELS

for rank in (1, 2, 3):
    x = torch.randn(2, 16, *(4,) * rank)
    block = MODELS.build(dict(type=f'CGNL{{rank}}d', in_channels=16))
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
