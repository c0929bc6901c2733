"""Check an annotation file as the host that reads it would take it.

The readers of the hosts name neither file nor line where one is broken, and
pycocotools ends the process.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import SetupError, printable
from . import lists

# For each reader of lists: what a line looks like, in words and as a pattern
# in which the braces stand for the separator.
LINES = dict(
    CustomDataset=('NAME LABEL, with one space', r'.*[^ ] -?\d{{1,9}}'),
    VideoDataset=('NAME{0}LABEL', r'[^{0}]+{0}-?\d{{1,9}}'),
    RawframeDataset=(
        'FOLDER FRAMES LABEL',
        r'\S+(\s+\d{{1,9}})+\s+-?\d{{1,9}}',
    ),
)
SPACES = ". Names with spaces need delimiter=',' in the config and commas here"
# The fields of each entry that mmdet needs. It computes with the numbers.
NUMBER, ID = (int, float), (int, str)
FIELDS = dict(
    images=dict(id=ID, file_name=(str,), height=NUMBER, width=NUMBER),
    categories=dict(id=ID, name=(str,)),
    annotations=dict(
        id=ID, image_id=ID, category_id=ID, bbox=(list,), area=NUMBER
    ),
)
FARTHEST = 1e6  # pixels; pycocotools crashes at 1e9


def check_list(
    path: Path,
    reader: str,
    separator: str = ' ',
    several: bool = False,
    unlabelled: bool = False,
) -> None:
    """Check each line of a list.

    Args:
        path (Path): The list.
        reader (str): A key of :data:`LINES`.
        separator (str): Of a VideoDataset. Defaults to a space.
        several (bool): Whether a VideoDataset has several labels a line.
            Defaults to False.
        unlabelled (bool): Whether a VideoDataset may lack a label. Defaults
            to False.

    Raises:
        SetupError: If a line is malformed, or there is none; it is named.
    """
    form, pattern = LINES[reader]
    form = form.format(separator.replace('\t', '<tab>'))
    pattern = pattern.format(re.escape(separator))
    if reader == 'VideoDataset':
        form += SPACES if separator == ' ' else ''
        pattern += rf'({re.escape(separator)}-?\d{{1,9}})*' * several
        pattern += rf'|[^{re.escape(separator)}]+' * unlabelled
    place = None
    for place, line in lists.read_lines(path, 'the config names it', True):
        if not re.fullmatch(pattern, line) or '\0' in line:
            raise SetupError(f'{place}: {line!r:.80} is not {form}')
    if place is None:
        raise SetupError(f'{path} is empty')


def read_json(path: Path):
    """Read a json file.

    Raises:
        SetupError: If it is not whole, or holds NaN or infinity.
    """
    try:
        return json.loads(lists.read_text(path, True), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SetupError(
            f'{path} is not a whole json file: {error}. Unpack or write it '
            'again'
        ) from None


def _refuse(text: str) -> None:
    raise ValueError(f'{text} is not a number')


def read_coco(path: Path, labelled: bool = True) -> dict:
    """Read a file in COCO's format and check what mmdet needs of it.

    Args:
        path (Path): The json file.
        labelled (bool): Whether it needs annotations. Defaults to True.

    Returns:
        dict: Its content, with images, annotations and categories.

    Raises:
        SetupError: If it is not a whole json file, or has a mistake; the
            first entry with one is named.
    """
    content, sizes = read_json(path), {}
    if not labelled and isinstance(content, dict):
        content.setdefault('annotations', [])
    for kind, fields in FIELDS.items():
        entries = content.get(kind) if isinstance(content, dict) else None
        if not isinstance(entries, list) or (labelled and not entries):
            raise SetupError(f'{path}: {kind} is missing or empty')
        seen = set()
        for number, item in enumerate(entries):
            place = f'{path}: {kind}[{number}]'
            _check_fields(item, fields, place)
            if item['id'] in seen:
                raise SetupError(f'{place}: id {item["id"]!r} again')
            seen.add(item['id'])
            if kind == 'images':
                sizes[item['id']] = item['height'], item['width']
            elif kind == 'annotations':
                _check_shapes(item, sizes.get(item['image_id']), place)
    return content


def _check_fields(item, fields: dict[str, tuple], place: str) -> None:
    for key, types in fields.items():
        value = item.get(key) if isinstance(item, dict) else None
        known = type(value) in types and value not in (math.inf, -math.inf)
        if not known or (key in ('height', 'width') and value <= 0):
            raise SetupError(f'{place}: {key} is {value!r:.60}')


def _check_shapes(item: dict, size: 'tuple | None', place: str) -> None:
    """Check the box of an annotation and the shapes for pycocotools."""
    box, shapes = item['bbox'], item.get('segmentation') or []
    if not _are_numbers(box) or len(box) != 4:
        raise SetupError(f'{place}: bbox {box} is not x, y, width, height')
    if isinstance(shapes, dict):
        if _is_broken(shapes, size):
            raise SetupError(
                f'{place}: the counts of its segmentation do not fill an '
                f'image of {size} pixels'
            )
    elif not isinstance(shapes, list) or not all(map(_are_numbers, shapes)):
        raise SetupError(
            f'{place}: segmentation is neither polygons of numbers within '
            f'+-{FARTHEST:g} nor counts with a size'
        )


def _are_numbers(values) -> bool:
    return (
        isinstance(values, list)
        and {*map(type, values)} <= {int, float}
        and (not values or FARTHEST > max(values) >= min(values) > -FARTHEST)
        and math.isfinite(sum(values))  # max() and min() pass over NaN
    )


def _is_broken(mask: dict, size: 'tuple | None') -> bool:
    """Whether the run lengths of a mask do not fill its image."""
    counts = mask.get('counts')
    try:
        if isinstance(counts, str):
            counts = _decode(counts)
        height, width = mask['size']
        fits = size is None or (height, width) == size
        whole = min(counts) >= 0 and sum(counts) == height * width
        return not (fits and whole)
    except (TypeError, KeyError, IndexError, ValueError):
        return True


def _decode(text: str) -> list[int]:
    """Decode the run lengths of pycocotools' compressed masks.

    Five bits a character, the sixth says that more follow; from the third
    number on, each is the difference from the last but one.
    """
    counts, value, shift = [], 0, 0
    for code in text.encode('ascii'):
        code -= 48
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            value -= (code & 0x10) // 0x10 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if not shift else []


def check_coco(
    path: Path, classes: 'Sequence[str] | None', labelled: bool = True
) -> str:
    """Check a file in COCO's format for the classes of a data set.

    Args:
        path (Path): The json file.
        classes (Sequence[str] | None): Names; None: unknown.
        labelled (bool): Whether it needs annotations. Defaults to True.

    Returns:
        str: How many objects mmdet drops, and why; '' for none.

    Raises:
        SetupError: As :func:`read_coco`, and if the labels would be wrong.
    """
    content = read_coco(path, labelled)
    names = {item['id']: item['name'] for item in content['categories']}
    classes = [*names.values()] if classes is None else [*classes]
    found = [name for name in names.values() if name in classes]
    if labelled and found != classes:
        raise SetupError(
            f'{path}: mmdet labels the categories by their order in the file, '
            f'{_first(names.values())}, and the classes of the config are '
            f'{_first(classes)}: give the same names in the same order, by '
            'metainfo=dict(classes=(...))'
        )
    sizes = {x['id']: (x['width'], x['height']) for x in content['images']}
    wanted = {key for key, name in names.items() if name in classes}
    objects = content['annotations']
    reasons = (_why_dropped(item, sizes, wanted) for item in objects)
    dropped = Counter(filter(None, reasons))
    if labelled and dropped.total() == len(objects):
        raise SetupError(f'{path}: no object is left: {_counted(dropped)}')
    if not dropped:
        return ''
    return (
        f'{path}: {dropped.total()} of {len(objects)} objects are dropped: '
        f'{_counted(dropped)}'
    )


def _first(names: Iterable[str]) -> str:
    text = printable(', '.join(names))
    return text if len(text) < 100 else f'{text[:100]} ...'


def _counted(kinds: Counter) -> str:
    return ', '.join(f'{count} {kind}' for kind, count in kinds.items())


def _why_dropped(item: dict, sizes: dict, wanted: set) -> 'str | None':
    """Say why mmdet drops an object; None if it takes it."""
    if item.get('ignore'):
        return 'to be ignored'
    if item['image_id'] not in sizes:
        return 'of an unknown image'
    if item['category_id'] not in wanted:
        return 'of other categories'
    x, y, width, height = item['bbox']
    if item['area'] <= 0 or width < 1 or height < 1:
        return 'of no area'
    across, down = sizes[item['image_id']]
    inside = -width < x < across and -height < y < down
    return None if inside else 'outside of the image'
