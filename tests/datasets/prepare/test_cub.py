"""CUB-200-2011: trees out of lists, and lists out of trees."""

from pathlib import Path

import pytest
from miniatures import CUB_IMAGES, FROM_LISTS, contents, make_author_lists

from cgnl_mm.errors import SetupError


def test_author_lists_out_and_in_are_the_same_data(start):
    run, tree = start('cub'), Path('data/CUB_200_2011')
    run('--write-author-lists', 'lists')
    lines = Path('lists/val.list').read_text().splitlines()
    assert lines == [f'{p} {k}' for p, k, train in CUB_IMAGES if not train]
    assert len(Path('lists/train.list').read_text().splitlines()) == 6
    out = run(options=FROM_LISTS)
    assert f'ln -sfT {Path("new").resolve()} {tree}' in out
    assert Path('new/images').is_symlink()
    assert Path('new/classes.txt').read_text() == (
        (tree / 'classes.txt').read_text()
    )
    # the new tree is an official one, also to this script
    assert 'train: 6 of 6 images' in run('--root', 'new')


def test_the_official_tree_is_not_replaced_by_ours(start):
    run = start('cub', make_author_lists)
    before = contents()
    with pytest.raises(SetupError, match='holds an official tree'):
        run(options=FROM_LISTS.replace('new', 'data/CUB_200_2011'))
    assert contents() == before
