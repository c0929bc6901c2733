"""The names that the author's code and its counterparts here give to tensors.

A table holds pairs of prefixes: one by the author's names, which are
torchvision's, and the one that takes its place. The first pair that fits a
key renames it. None stands for a tensor that has no counterpart.
"""

from typing import NamedTuple, Optional, Tuple

Table = Tuple[Tuple[str, Optional[str]], ...]


class Target(NamedTuple):
    """A kind of models that a checkpoint is converted for.

    Attributes:
        host (str): Import name of the host of these models.
        config (str): Name of the configs of these models.
        table (Table): Their names; each key fits a pair.
    """

    host: str
    config: str
    table: Table


BACKBONE: Table = (('fc.', None), ('', 'backbone.'))
TARGETS = {
    'mmpretrain': Target(
        'mmpretrain',
        'r{depth}{block}_{data}',
        (('fc.', 'head.fc.'), ('', 'backbone.')),
    ),
    'mmdet': Target('mmdet', 'mask_rcnn_r{depth}_fpn{block}_coco', BACKBONE),
}


def rename(key: str, *tables: Table) -> Optional[str]:
    """Rename a key by one table after the other.

    Returns:
        str | None: The new name; None if a table has none.
    """
    for table in tables:
        fitting = (pair for pair in table if key.startswith(pair[0]))
        old, new = next(fitting, ('', ''))
        if new is None:
            return None
        key = new + key[len(old) :]
    return key
