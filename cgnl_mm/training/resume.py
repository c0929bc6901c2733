"""Find the checkpoint that a run goes on from."""

import logging
import os
import os.path as osp
import re
import zipfile
from typing import Optional

import torch
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..checkpoints import find_fault
from ..errors import SetupError, printable

NOTE = 'last_checkpoint'
PREEMPTED = 'preempted.pth'
# names of the checkpoints that MMEngine and PreemptionHook write
NAMES = rf'(epoch|iter)_\d+\.pth|{re.escape(PREEMPTED)}'


def choose_checkpoint(runner: Runner) -> None:
    """Let a runner that is to resume take :func:`find_latest`'s checkpoint.

    A hook calls this before the run. FlexibleRunner has resumed by then and
    keeps MMEngine's choice; tools/train.py chooses before it is built.

    Args:
        runner (Runner): The runner.
    """
    if runner._resume and runner._load_from is None and not runner._has_loaded:
        runner._load_from = find_latest(runner.work_dir)
        runner._resume = runner._load_from is not None


def resumed_from(runner: Runner) -> Optional[str]:
    """Return the path from which a runner goes on; None if it starts anew."""
    return runner._load_from if runner._resume else None


def find_latest(folder: str) -> Optional[str]:
    """Find the checkpoint from which a run goes on.

    This is the file that ``last_checkpoint`` names, or the file of that name
    in the folder if the folder was moved or copied. If that file is missing
    or broken, it is the whole checkpoint of the most iterations beside it.
    Every file that is passed over is logged with the reason, by one process.

    Args:
        folder (str): The work folder of the run.

    Returns:
        str | None: The path; None if there is no checkpoint.

    Raises:
        SetupError: The folder holds checkpoints, and which of them is the
            run's last one cannot be told.
    """
    named = _read_note(folder)
    if '://' in named:
        return named
    first, homes = _locate(named, folder)
    names = NAMES
    if first:
        fault = _fault_of_named(first)
        if fault is None:
            return first
        _warn(f'passed over {first}: {fault}')
        # names that differ in numbers alone, of whatever template
        name = re.escape(osp.basename(first))
        names += '|' + re.sub(r'\d+', r'\\d+', name)
    paths = [
        osp.join(home, name)
        for home in homes
        for name in (sorted(os.listdir(home)) if osp.isdir(home) else ())
        if re.fullmatch(names, name) and osp.join(home, name) != first
    ]
    found = _find_furthest(paths)
    if found is None and (first or paths):
        _warn(f'no checkpoint in {folder} can be resumed from')
    return found


def _read_note(folder: str) -> str:
    note = osp.join(folder, NOTE)
    try:
        if osp.exists(note) and not osp.isfile(note):
            raise OSError(find_fault(note))
        with open(note, encoding='utf-8') as file:
            named = file.read().strip()
    except FileNotFoundError:
        return ''
    except (OSError, UnicodeDecodeError) as error:
        _warn(f'{note} cannot be read: {error}')
        return ''
    if not osp.basename(named):
        _warn(f'{note} names no file: {named!r}')
        return ''
    return named


def _locate(named: str, folder: str) -> tuple:
    """Return where a named checkpoint is now, and where to look for others.

    A CheckpointHook may save elsewhere (``out_dir``). A run that was moved or
    copied names its files where they were.
    """
    home = osp.dirname(named) or folder
    here = osp.join(folder, osp.basename(named)) if named else ''
    if osp.exists(osp.join(home, NOTE)) and not osp.samefile(home, folder):
        return here, [folder]  # a copy; the other files are the original's
    homes = {osp.realpath(path): path for path in (folder, home)}
    return (named if osp.exists(named) else here), homes.values()


def _fault_of_named(path: str) -> Optional[str]:
    if osp.isdir(path):  # the shards of DeepSpeed or FSDP are not read
        return None if os.listdir(path) else 'an empty folder'
    try:
        _read_progress(path)
    except ValueError as reason:
        return str(reason)
    return find_fault(path)


def _read_progress(path: str, needs_optimizer: bool = False) -> tuple:
    """Read a checkpoint's iterations and time, without its tensors.

    Raises:
        ValueError: No run can go on from the file; the text says why.
    """
    if not osp.isfile(path):
        raise ValueError(find_fault(path))
    try:
        checkpoint = torch.load(
            path, map_location='cpu', mmap=zipfile.is_zipfile(path)
        )
        meta, has_optimizer = checkpoint['meta'], 'optimizer' in checkpoint
        progress = int(meta['iter']), str(meta.get('time', ''))
    except Exception as error:  # a stranger's file may raise anything
        reason = f'not the checkpoint of a training ({type(error).__name__})'
        raise ValueError(find_fault(path) or reason) from None
    # MMEngine would go on without it, and say nothing.
    if needs_optimizer and not has_optimizer:
        raise ValueError('without the state of an optimizer')
    return progress


def _find_furthest(paths: list) -> Optional[str]:
    progress = {}
    for path in paths:
        try:
            progress[path] = _read_progress(path, needs_optimizer=True)
        except ValueError as reason:
            _warn(f'passed over {path}: {reason}')
    left = sorted(progress, key=progress.get)
    while left:
        path = left.pop()
        fault = find_fault(path)
        if fault is None:
            for other in left:
                if progress[other][1] > progress[path][1]:
                    raise _unclear(
                        f'{path} has more iterations than {other} but is '
                        'older: two runs have saved there'
                    )
            return path
        _warn(f'passed over {path}: {fault}')
    for path in paths:
        if osp.isdir(path) and os.listdir(path):
            raise _unclear(f'{path} is the folder of a sharded checkpoint')
    return None


def _unclear(text: str) -> SetupError:
    return SetupError(
        f'{printable(text)}, and {NOTE} names no whole one. Name the '
        'checkpoint to go on from: --resume PATH'
    )


def _warn(text: str) -> None:
    # the launchers' variables: the processes do not know each other yet
    rank = os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or '0'
    if rank == '0':
        print_log(printable(text), 'current', logging.WARNING)
