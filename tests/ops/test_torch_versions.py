"""What an old PyTorch lacks is said where the package is imported."""

import pytest
import torch

from cgnl_mm.ops.torch_versions import TORCH, missing


def test_each_version_lacks_what_came_later():
    assert missing((2, 14)) == missing((2, 6)) == ''
    assert 'export.py' in missing((2, 5))
    assert 'get_flops.py' not in missing((2, 4))
    assert 'get_flops.py' in missing((2, 3))


@pytest.mark.parametrize('version', ['2.5.1', None])
def test_import_says_so(version, python):
    fake = '' if version is None else f'torch.__version__ = {version!r};'
    said = python('-c', f'import torch; {fake} import cgnl_mm', off='')
    if version is None and TORCH >= (2, 6):
        assert 'cgnl_mm, but' not in said
    else:
        shown = version or torch.__version__
        assert f'PyTorch {shown} works with cgnl_mm, but:' in said
        assert 'load none of a stranger' in said
