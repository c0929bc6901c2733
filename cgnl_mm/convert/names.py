"""The names that each code base gives to the tensors of a ResNet.

A table holds pairs of prefixes: a code's own, and the plain one. Plain names
are torchvision's, with a block as ``layer3.cgnl_4.theta``. The first pair
that fits a key renames it, read forwards or backwards. None on one side
stands for a tensor that this side does not have.
"""

from typing import NamedTuple, Optional, Tuple

Table = Tuple[Tuple[Optional[str], Optional[str]], ...]


class Code(NamedTuple):
    """A code base.

    Attributes:
        name (str): What an error calls it.
        mark (str): What a name of its state dict begins with.
        table (Table): Its names; a name that no pair renames is plain.
        parts (tuple[str, ...]): What the names begin with that a converted
            checkpoint has in a model of ours; empty for another code.
        host (str): Import name of the host of these models.
        config (str): Name of the configs of these models.
    """

    name: str
    mark: str
    table: Table = ()
    parts: Tuple[str, ...] = ()
    host: str = ''
    config: str = ''


AUTHOR = Code("the author's code", 'layer1.')
MMPRETRAIN = Code(
    'mmpretrain',
    'backbone.',
    (('head.fc.', 'fc.'), ('backbone.', '')),
    ('backbone.', 'head.'),
    'mmpretrain',
    'r{depth}{block}_{data}',
)
MMPRETRAIN_BACKBONE = MMPRETRAIN._replace(
    table=((None, 'fc.'), ('backbone.', '')), parts=('backbone.',)
)
MMDET = MMPRETRAIN_BACKBONE._replace(
    name='mmdet', host='mmdet', config='mask_rcnn_r{depth}_fpn{block}_coco'
)
TARGETS = {
    MMPRETRAIN: {'author': AUTHOR},
    AUTHOR: {'mmpretrain': MMPRETRAIN, 'mmdet': MMDET},
}


def backwards(table: Table) -> Table:
    """Exchange the sides of a table."""
    return tuple((new, old) for old, new in table)


def rename(key: str, *tables: Table) -> Optional[str]:
    """Rename a key by one table after the other.

    Returns:
        str | None: The new name; None if a table has none.
    """
    for table in tables:
        for old, new in table:
            if old is not None and key.startswith(old):
                if new is None:
                    return None
                key = new + key[len(old) :]
                break
    return key
