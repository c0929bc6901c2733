"""The stand-in against a compiled mmcv, where there is one.

``CGNL_MM_COMPILED_MMCV`` may name a folder that holds one, such as
``pip install --no-deps --target FOLDER mmcv-2.1.0-*.whl`` makes.
"""

import os
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from cgnl_mm.compat import mmcv_ops

CASES = Path(__file__).with_name('mmcv_ops_cases.py')


@pytest.fixture(scope='module')
def both(python, tmp_path_factory):
    """Results of the stand-in and of the compiled operators."""
    folder = os.environ.get('CGNL_MM_COMPILED_MMCV', '')
    if not folder and mmcv_ops.not_needed() is None:
        pytest.skip(
            'no compiled mmcv here; CGNL_MM_COMPILED_MMCV may name the '
            'folder of one'
        )
    results = []
    for name, args in (('ours', ['--stand-in']), ('theirs', [])):
        out = tmp_path_factory.mktemp(name) / 'results.pt'
        python(CASES, out, *args, off='', path=folder)
        results.append(torch.load(out))
    ours, theirs = results
    assert ours.pop('_ext').endswith('mmcv_ext.py')
    assert not theirs.pop('_ext').endswith('.py')
    return ours, theirs


def test_same_results_as_compiled(both):
    ours, theirs = both
    assert ours.keys() == theirs.keys()
    for name in ours:
        for mine, compiled in zip(ours[name], theirs[name], strict=True):
            # selections and samples are the same; sums may be reordered
            tolerance = 0 if 'nms' in name else 1e-5
            assert_close(
                mine,
                compiled,
                rtol=tolerance,
                atol=tolerance,
                msg=lambda m, name=name: f'{name}: {m}',
            )
