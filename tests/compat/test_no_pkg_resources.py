"""None in sys.modules makes an import fail as if nothing were installed."""

import os

import pytest

from cgnl_mm.compat import no_pkg_resources

HIDE = 'import sys; sys.modules["pkg_resources"] = None\n'


def test_config_of_a_host(python, originals):
    pytest.importorskip('mmdet')
    code = HIDE + (
        'import cgnl_mm.compat\n'
        'from mmengine.config import Config\n'
        'base = "_base_ = \'mmdet::_base_/models/mask-rcnn_r50_fpn.py\'"\n'
        'print(Config.fromstring(base, ".py").model.type)\n'
    )
    off = python('-c', code, off='-no_pkg_resources', status=1)
    assert 'pkg_resources' in off.splitlines()[-1]
    assert 'Error' in off.splitlines()[-1]
    assert python('-c', code, off='').endswith('MaskRCNN\n')


def test_answers_are_those_of_pkg_resources():
    pytest.importorskip('pkg_resources')
    from mmengine.utils import package_utils

    if package_utils.get_installed_path is no_pkg_resources.get_installed_path:
        pytest.skip('already replaced: nothing to compare with')
    # module, distribution of another name, and neither
    for name in ('mmengine', 'torch', 'mmaction2', 'no-such-package'):
        theirs = package_utils.is_installed(name)
        assert no_pkg_resources.is_installed(name) == theirs
        if theirs:
            assert os.path.samefile(
                no_pkg_resources.get_installed_path(name),
                package_utils.get_installed_path(name),
            )
    with pytest.raises(ImportError, match='no-such-package'):
        no_pkg_resources.get_installed_path('no-such-package')
