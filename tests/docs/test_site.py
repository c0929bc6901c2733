"""The site builds without a warning, and links lead somewhere.

Sphinx checks links and anchors between pages of the site; what GitHub shows,
and links between files of the repository, are checked here.
"""

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in ('*.md', 'c*/**/*.md', 'docs/*.md', 'docs/zh/*.md')
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r'\]\((?!\w+:)([^)\s]+)\)')


CODE = re.compile(r'^```.*?^```', re.MULTILINE | re.DOTALL)


def anchors(path):
    """GitHub's names of a page's headings."""
    text = CODE.sub('', path.read_text('utf-8'))
    for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE):
        name = re.sub(r'\[(.*?)\]\(.*?\)', r'\1', heading).lower()
        yield re.sub(r'[^\w\- ]', '', name).replace(' ', '-')


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(path):
    for link in LINK.findall(CODE.sub('', path.read_text('utf-8'))):
        name, _, anchor = link.partition('#')
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            stub = re.match(r'\[.*\]\((.+)\)\s*\Z', target.read_text('utf-8'))
            if stub:  # the site shows the page that it links to
                target = target.parent / stub[1]
            assert anchor in anchors(target), link


# What a browser loads by itself, in a page or in a style sheet.
LOADED = re.compile(
    r"""<(?!a\b)[^>]*\b(?:src|href|data)="(?:https?:)?//[^"]*"|"""
    r"""(?:url\(|@import\s*)['"]?(?:https?:)?//[^'")]*"""
)


@pytest.mark.nightly
def test_site_builds_without_a_warning_and_loads_nothing(tmp_path, warm):
    pytest.importorskip('furo')
    options = ['-q', '-W', '--keep-going', '-d', tmp_path / 'doctrees']
    done = subprocess.run(
        [warm, '-m', 'sphinx', *options, 'docs', tmp_path / 'site'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for pattern in ('**/*.html', '_static/**/*.css'):
        for file in (tmp_path / 'site').glob(pattern):
            assert not LOADED.findall(file.read_text('utf-8')), file.name
    # docs/operator.md itself holds a link.
    for name, word in (('operator', 'Derivation'), ('api', 'find_blocks')):
        assert word in (tmp_path / f'site/{name}.html').read_text('utf-8')


def test_readme_is_read_in_minutes():
    assert len((ROOT / 'README.md').read_text('utf-8').split()) <= 750


def test_reference_is_complete():
    """It has what a config may name, and what other code may import."""
    text = (ROOT / 'docs/api.md').read_text('utf-8')
    found = re.compile(r'register_module\(\)\nclass (\w+)').findall
    files = [*ROOT.glob('cgnl_mm/*.py'), *ROOT.glob('cgnl_mm/*/*.py')]
    names = sum((found(file.read_text('utf-8')) for file in files), [])
    assert {'DropoutLinearClsHead', 'Relations', 'NumericsHook'} <= {*names}
    for part in ('', '.compat', '.convert', '.ops', '.visualization'):
        names += import_module(f'cgnl_mm{part}').__all__
    assert not [x for x in names if not re.search(rf'[.`]{x}\b', text)]


def test_script_draws_the_figure(tmp_path, warm):
    figure = tmp_path / 'again.svg'
    subprocess.run([warm, ROOT / 'docs/draw_affinity.py', figure], check=True)
    assert figure.read_text('utf-8').endswith('</svg>\n')


def test_table_of_repairs_is_complete():
    from cgnl_mm.compat import REPAIRS

    text = (ROOT / 'docs/install.md').read_text('utf-8')
    assert not [name for name in REPAIRS if f'`{name}`' not in text]
