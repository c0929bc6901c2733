"""The Chinese pages show the code of the English ones, and link to them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHINESE = {'README.md': 'README_zh-CN.md'} | {
    f'docs/{page.name}': f'docs/zh/{page.name}'
    for page in sorted(ROOT.glob('docs/zh/*.md'))
}
BLOCK = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(([^)]+)\)')


def codes(page):
    found = BLOCK.findall((ROOT / page).read_text('utf-8'))
    return [code for code in found if not code.startswith('```{')]  # Sphinx's


@pytest.mark.parametrize('english', CHINESE)
def test_code_is_the_same(english):
    assert codes(english) == codes(CHINESE[english])


@pytest.mark.parametrize('english', CHINESE)
def test_pages_link_to_each_other(english):
    """At their head, before the reader has begun."""
    pair = (english, CHINESE[english])
    for page, other in (pair, pair[::-1]):
        head = (ROOT / page).read_text('utf-8').splitlines()[:3]
        links = LINK.findall(' '.join(head))
        targets = [((ROOT / page).parent / link).resolve() for link in links]
        assert (ROOT / other).resolve() in targets
