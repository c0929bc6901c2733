"""Which checkpoints of a run can be resumed from."""

import logging
import os
import os.path as osp
import zipfile
from typing import Optional

import torch

from ..errors import SetupError, printable

# a key of the pickled dictionary, with the length before it
OPTIMIZER = b'X\x09\x00\x00\x00optimizer'


def find_fault(path: str, with_optimizer: bool = False) -> Optional[str]:
    """Say why a checkpoint file cannot be resumed from.

    Reads the whole file for its checksums; unpickles nothing.

    Args:
        path (str): A file in the format of torch >= 1.6, or an older one,
            which holds no checksums and passes.
        with_optimizer (bool): Also ask for the state of an optimizer, which
            the best checkpoints of a run do not hold. Defaults to False.

    Returns:
        str | None: The reason in a few words; None if the file is whole.
    """
    if not osp.exists(path):
        return 'missing'
    try:
        if not osp.getsize(path):
            return 'empty'
        if not zipfile.is_zipfile(path):
            with open(path, 'rb') as file:
                start = file.read(2)
            if start == b'PK':
                return 'cut off'
            # of torch < 1.6: a pickle, of protocol 2 or later
            return None if start[:1] == b'\x80' else 'no checkpoint of PyTorch'
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
            if broken:
                return printable(f'damaged at {broken!r}')
            pickled = [n for n in file.namelist() if n.endswith('/data.pkl')]
            if not pickled:
                return 'no checkpoint of PyTorch'
            torch._C.PyTorchFileReader(path)  # refuses more than zipfile
            if with_optimizer and OPTIMIZER not in file.read(pickled[0]):
                return 'without the state of an optimizer'
    except Exception as error:  # of broken archives zipfile raises anything
        return printable(f'{type(error).__name__}: {error}')
    return None


def require_file(path: str, option: str) -> None:
    """Raise SetupError unless ``path``, given as ``option``, can be read.

    Args:
        path (str): A file; a URL (``https://...``, ``s3://...``) passes.
        option (str): The user's name for the path.
    """
    if '://' not in path and not os.path.isfile(path):
        raise SetupError(f'{option}: no file {path!r} in {os.getcwd()}')


def require_whole(path: str, option: str = '') -> None:
    """Raise SetupError if the local checkpoint ``path`` is damaged."""
    fault = find_fault(path) if '://' not in path else None
    if fault:
        way_out = (
            f'. `{option}` without a path takes the last whole checkpoint of '
            'the work folder'
        )
        raise SetupError(
            f'{option or "checkpoint"}: {path!r} cannot be read: {fault}'
            + (way_out if option else '')
        )


def find_latest(folder: str) -> Optional[str]:
    """Find the checkpoint from which a run goes on.

    The one that ``last_checkpoint`` names, or that of its name in the folder
    if the folder was moved or copied, unless it is not whole: then the newest
    whole one beside it. Every file that is passed over is logged.

    Args:
        folder (str): Work folder of the run.

    Returns:
        str | None: Its path; None if there is none.
    """
    from mmengine.logging import print_log

    note = osp.join(folder, 'last_checkpoint')
    if not osp.exists(note):
        # killed during the first save: nothing was finished
        print_log(f'no last_checkpoint in {folder}: nothing to resume from')
        return None
    with open(note) as file:
        named = file.read().strip()
    if '://' in named or osp.isdir(named):  # remote, or DeepSpeed's
        return named
    first, homes = _locate(named, folder)
    found = [path for home in homes for path in _newest_first(home)]
    for path in dict.fromkeys((first, *found) if named else found):
        if osp.isdir(path):  # of DeepSpeed, which checks it itself
            return path
        fault = find_fault(path, with_optimizer=path != first)
        if fault is None:
            return path
        print_log(f'passed over {path}: {fault}', 'current', logging.WARNING)
    print_log(
        f'no checkpoint in {folder} can be resumed from',
        'current',
        logging.WARNING,
    )
    return None


def _locate(named: str, folder: str) -> tuple:
    """Where a named checkpoint is now, and where to look for others.

    A CheckpointHook may save elsewhere (``out_dir``); a run may have been
    moved or copied, and names its files where they were.
    """
    here, home = osp.join(folder, osp.basename(named)), osp.dirname(named)
    if osp.exists(named) and not _is_of_another_run(home, folder):
        return named, (home, folder)
    return here, (folder if _newest_first(folder) else home,)


def _is_of_another_run(home: str, folder: str) -> bool:
    """Whether it is the work folder of one, such as the copied original."""
    note = osp.join(home, 'last_checkpoint')
    return osp.exists(note) and not osp.samefile(home, folder)


def _newest_first(folder: str) -> list:
    """Checkpoints but for the best ones, which hold no optimizer."""
    if not osp.isdir(folder):
        return []
    found = [
        entry
        for entry in os.scandir(folder)
        if entry.name.endswith('.pth') and not entry.name.startswith('best_')
    ]
    found.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    return [osp.join(folder, entry.name) for entry in found]
