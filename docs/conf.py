"""Sphinx: python -m sphinx -W --keep-going docs docs/_build

The table of contents is in index.md. Links to files outside of docs/, such as
configs, become downloads.
"""

import posixpath
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for autodoc

project = 'cgnl_mm'
release = runpy.run_path(str(ROOT / 'cgnl_mm/version.py'))['__version__']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
]
exclude_patterns = ['_build']

myst_heading_anchors = 3  # GitHub's anchors: links hold in both places
autodoc_member_order = 'bysource'

html_show_copyright = False
html_theme = 'furo'
html_title = f'cgnl_mm {release}'
html_copy_source = False
html_static_path = ['_static']
html_css_files = ['cgnl.css']
highlight_language = 'none'  # diagrams in docstrings are no Python

# Pages that live beside what they describe; here is only a link to each.
PAGES = {
    'configs': 'configs/README.md',
    'grids': 'configs/grids/README.md',
    'operator': 'cgnl_mm/ops/README.md',
}
DOCNAMES = {f'../{page}': docname for docname, page in PAGES.items()}
LINK = re.compile(r'(\]\()(?!\w+:|#)([^)#]+)')


def read_page(app, docname, source) -> None:
    """Put the page in place of the link, its own links moved along."""
    if docname not in PAGES:
        return
    folder = posixpath.join('..', posixpath.dirname(PAGES[docname]))

    def move(match):
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        inside = DOCNAMES.get(target)
        return match[1] + (f'{inside}.md' if inside else target)

    page = ROOT / PAGES[docname]
    source[0] = LINK.sub(move, page.read_text(encoding='utf-8'))
    app.env.note_dependency(str(page))


def setup(app) -> None:
    app.connect('source-read', read_page)
