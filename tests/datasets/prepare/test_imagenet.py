"""ImageNet-1k: where the labels of its flat validation images come from."""

from pathlib import Path

import pytest
from miniatures import VAL, WNIDS, imagenet_reads, write_jpeg

from cgnl_mm.errors import SetupError

DATA = Path('data/imagenet')
WHOLE = [rows for _, rows in imagenet_reads()]


def test_the_kit_gives_what_the_class_folders_give(start, samples):
    """And both give what mmpretrain gives without annotation files."""
    run = start('folders')
    assert not (DATA / 'meta').exists()
    plain = samples('folders')
    run('--devkit', 'devkit/data')  # or the folder in the kit
    assert samples('folders') == plain


def test_labels_do_not_shift_with_a_missing_class(start, samples):
    """Half of the classes were copied: the kit knows all."""
    run, folder = start('kit'), DATA / 'train' / WNIDS[0]
    folder.rename('elsewhere')
    run()
    assert samples('kit')[0] == WHOLE[0][2:]
    with pytest.raises(SetupError, match='is for the classes of .*--devkit'):
        run(options='')
    # what is not of the kit is no class
    Path('elsewhere').rename(folder.with_name('n99999999'))
    assert '2 in the folder of another class' in run()
    assert samples('kit')[0] == WHOLE[0][2:]


def test_flat_images_without_labels_say_what_to_get(start):
    with pytest.raises(SetupError, match='no class folders.*--devkit.*--val-'):
        start('kit')(options='')


def test_labels_of_repaired_images_are_kept_by_a_second_run(start, samples):
    """Without the kit they are known from the first run's lists alone."""
    run, image = start('kit'), DATA / 'val' / VAL[1][0]
    image.write_bytes(b'')
    run()
    assert len(samples('kit')[1]) == len(VAL) - 1
    write_jpeg(image)
    run(options='')
    assert samples('kit') == WHOLE


def test_read_only_data_get_lists_elsewhere(start, samples):
    run = start('kit')
    out = run('--out', 'lists')
    assert not (DATA / 'meta').exists()
    assert f'ln -sfT {Path("lists").resolve()} data/imagenet/meta' in out
    (DATA / 'meta').symlink_to(Path('lists').resolve())
    assert samples('kit') == WHOLE
    assert 'ln -s' not in run('--out', 'lists')


def test_lists_of_somebody_else_are_kept(start, samples):
    """Unless they say the same in another order."""
    run, meta = start('kit'), DATA / 'meta'
    run()
    (meta / 'classes.txt').unlink()
    lines = (meta / 'train.txt').read_text().splitlines(keepends=True)
    (meta / 'train.txt').write_text(''.join(lines[::-1]))
    run()
    assert samples('kit') == WHOLE
    (meta / 'classes.txt').unlink()
    (meta / 'train.txt').write_text(lines[0])
    with pytest.raises(SetupError, match='train.txt was not written by this'):
        run()
    assert (meta / 'train.txt').read_text() == lines[0]
