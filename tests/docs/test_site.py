"""The site builds without a warning, links lead somewhere, quotes are exact.

Sphinx checks links and anchors between pages of the site; what GitHub shows,
and links between files of the repository, are checked here.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in ('*.md', 'configs/*.md', 'docs/*.md', 'cgnl_mm/**/*.md')
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r'\]\((?!\w+:)([^)\s]+)\)')


def anchors(path):
    """GitHub's names of a page's headings."""
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.M | re.S)
    for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE):
        name = re.sub(r'\[(.*?)\]\(.*?\)', r'\1', heading).lower()
        yield re.sub(r'[^\w\- ]', '', name).replace(' ', '-')


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(path):
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        name, _, anchor = link.partition('#')
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            stub = re.search(r'\A\[.*\]\((.+)\)\s*\Z', target.read_text())
            if stub:  # the site shows the page that it links to
                target = target.parent / stub[1]
            assert anchor in anchors(target), link


@pytest.mark.nightly
def test_site_builds_without_a_warning(tmp_path, warm):
    for module in ('sphinx', 'myst_parser', 'furo'):
        pytest.importorskip(module)
    options = ['-q', '-W', '--keep-going', '-d', tmp_path / 'doctrees']
    done = subprocess.run(
        [warm, '-m', 'sphinx', *options, 'docs', tmp_path / 'site'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / 'site/operator.html').read_text()
    assert 'Derivation' in page  # not the link that docs/operator.md holds
    assert 'generalized_nonlocal' in (tmp_path / 'site/api.html').read_text()


def test_figure_is_what_its_script_draws(tmp_path):
    figure = (ROOT / 'docs/images/affinity.svg').read_text()
    if f'Matplotlib v{matplotlib.__version__},' not in figure:
        pytest.skip('drawn by another version of Matplotlib')
    script = ROOT / 'docs/draw_affinity.py'
    subprocess.run(
        [sys.executable, script, tmp_path / 'again.svg'],
        env={'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        check=True,
    )
    assert (tmp_path / 'again.svg').read_text() == figure


def literals():
    """Every string of the package; what is filled into it is a blank …"""
    for path in (ROOT / 'cgnl_mm').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(
                    str(part.value) if isinstance(part, ast.Constant) else '…'
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(
                node.value, str
            ):
                yield node.value


def test_quoted_errors_are_the_ones_raised():
    text = (ROOT / 'docs/plugins.md').read_text()
    _, _, table = text.partition('## Errors you may get')
    quotes = re.findall(r'^\| (`.+?) \| ', table, re.MULTILINE)
    assert len(quotes) > 10
    known = list(literals())
    for quote in quotes:
        for part in re.findall(r'`(.+?)`', quote):
            assert any(part in literal for literal in known), part


def test_table_of_repairs_is_complete():
    from cgnl_mm.compat import WORKAROUNDS

    text = (ROOT / 'docs/install.md').read_text()
    missing = [w.name for w in WORKAROUNDS if f'`{w.name}`' not in text]
    assert not missing


def test_versions_in_the_table_are_those_of_the_constraints():
    pinned = dict(
        re.findall(
            r'^([\w-]+)==(\S+)$',
            (ROOT / 'requirements/constraints.txt').read_text(),
            re.MULTILINE,
        )
    )
    text = (ROOT / 'docs/install.md').read_text()
    for name in ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'mmdet',
                 'mmpretrain', 'mmaction2', 'setuptools'):  # fmt: skip
        row = re.search(rf'^\| [^|]*\b{name}\b[^|]*\| ([^|]*) \|', text, re.M)
        assert pinned[name] in row[1], name
