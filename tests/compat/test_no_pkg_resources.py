"""Compare the answers with those of pkg_resources."""

import json
import os

import pytest

from cgnl_mm.compat import no_pkg_resources

THEIRS = """
import json, warnings
import cgnl_mm.compat
from mmengine.utils import get_installed_path, is_installed
warnings.simplefilter({action!r})
names = 'mmengine', 'torch', 'mmaction2', 'no-such-package'
print(json.dumps({{
    name: is_installed(name) and get_installed_path(name) for name in names
}}))
"""


def test_answers_are_those_of_pkg_resources(python):
    """A module, a distribution of another name, and neither."""
    pytest.importorskip('pkg_resources')
    code = THEIRS.format(action='ignore')
    theirs = json.loads(python('-c', code, off='-no_pkg_resources'))
    for name, path in theirs.items():
        assert no_pkg_resources.is_installed(name) == bool(path)
        if path:
            ours = no_pkg_resources.get_installed_path(name)
            assert os.path.samefile(ours, path)
    with pytest.raises(ImportError, match='no-such-package'):
        no_pkg_resources.get_installed_path('no-such-package')


def test_nothing_warns(python):
    python('-c', THEIRS.format(action='error'), off='')
