"""Write the lists of clips that a host reads, and say what is not in them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...errors import SetupError
from ...files import whole_files
from ..decode import list_kinds
from .lists import as_table

UNUSABLE = 'unusable.txt'


class Clip(NamedTuple):
    """A clip of a split.

    Attributes:
        name (str): Its name for people.
        label (str | None): Its class; None if that is unknown.
        reason (str): Why it is unusable; '' if it is usable.
        path (str): Its path below the folder of the clips.
    """

    name: str
    label: 'str | None'
    reason: str
    path: str


def write_annotations(
    out: Path,
    splits: dict[str, list[Clip]],
    classes: list[str],
    complete: Iterable[int],
    separator: str,
) -> None:
    """Write the lists of a data set, and print what they hold.

    ``unusable.txt`` gets split, name, class and reason of what is in no
    list, ``classes.txt`` the name of each label.

    Args:
        out (Path): Folder of the lists, made where it does not exist.
        splits (dict[str, list[Clip]]): The clips, by the name of their list.
        classes (list[str]): Name of each label.
        complete (Iterable[int]): Number of clips in each split of the
            complete data set.
        separator (str): What stands before a label.

    Raises:
        SetupError: If a split has no usable clip.
    """
    labels = {name: label for label, name in enumerate(classes)}
    contents, unusable = {}, []
    for (name, clips), whole in zip(splits.items(), complete):
        usable = [clip for clip in clips if not clip.reason]
        lost = [clip for clip in clips if clip.reason]
        kinds = list_kinds(clip.reason for clip in lost)
        print(
            f'{name}: {len(usable):,} of {len(clips):,} clips are usable, of '
            f'{whole:,} in the complete data set'
            + (f'; the others: {kinds}' if kinds else '')
        )
        if not usable:
            raise SetupError(
                f'{name}: none of the clips is usable: does --videos name '
                'their folder?'
            )
        contents[name] = ''.join(
            f'{clip.path}{separator}{labels[clip.label]}\n' for clip in usable
        )
        unusable += [(name, x.name, str(x.label), x.reason) for x in lost]
    contents['classes.txt'] = ''.join(f'{name}\n' for name in classes)
    contents[UNUSABLE] = as_table(unusable)
    write_files(out, contents)


def write_files(out: Path, contents: dict[str, str]) -> None:
    """Write each file whole: an interrupted run leaves old and new ones.

    Args:
        out (Path): Folder of the files, made where it does not exist.
        contents (dict[str, str]): Text of each file, by its name.
    """
    with whole_files(out) as folder:
        for name, text in contents.items():
            (folder / name).write_bytes(text.encode())
    print(f'wrote {", ".join(contents)} to {out}')
