"""Stop a training that must not begin, before its first iteration."""

import logging
import os
import os.path as osp
import socket
from typing import Optional
from weakref import WeakSet

from mmengine import dist
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..errors import SetupError, printable
from .resume import resumed_from

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = 'training.lock'
# by process and folder; never closed, since that would give the lock up
_files = {}
_checked = WeakSet()  # runners


def require_start(runner: Runner) -> None:
    """Lock the work folder, and compare where the processes begin.

    A hook calls this first in ``before_train``, in every process. The first
    call of a runner does it.

    Args:
        runner (Runner): The runner, or a FlexibleRunner; what it resumes
            from is loaded.

    Raises:
        SetupError: Another training holds the folder, or the processes go
            on from different checkpoints. Every process raises it.
    """
    if runner in _checked:
        return
    _checked.add(runner)
    fault = lock_folder(runner.work_dir) if dist.is_main_process() else None
    name = printable(osp.basename(resumed_from(runner) or '')) or 'no file'
    start = f'from {name} at iteration {runner.iter}'
    everyone = dist.all_gather_object((fault, start))
    if everyone[0][0]:
        raise SetupError(everyone[0][0])
    for rank, (_, other) in enumerate(everyone):
        if other != everyone[0][1]:
            raise SetupError(
                'the processes do not begin at the same place: rank 0 goes on '
                f'{everyone[0][1]}, rank {rank} {other}. Give all nodes one '
                'work folder, or a copy of the checkpoint and of '
                'last_checkpoint'
            )


def lock_folder(folder: str) -> Optional[str]:
    """Keep other trainings out of a folder until this process ends.

    The lock is a record lock of the operating system. However the process
    ends, the lock ends with it; a forked worker does not inherit it. The
    file stays and names the host and the process.

    Args:
        folder (str): The work folder of a run.

    Returns:
        str | None: Who holds the lock; None if it is this process, or if
        the file system has no locks, which is logged.
    """
    if fcntl is None:
        return None
    path = osp.join(folder, LOCK)
    key = os.getpid(), osp.realpath(folder)
    if key in _files:
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags, 0o644), 'r+', errors='replace')
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = printable(file.readline().strip()) or 'another process'
        return (
            f'{folder} is in use: {holder} trains there. Wait for its end, '
            'end it, or train in another folder by --work-dir'
        )
    except OSError as error:
        print_log(
            f'{path} cannot be locked ({error.strerror}): two trainings in '
            'this folder would not notice each other',
            'current',
            logging.WARNING,
        )
        return None
    _files[key] = file
    file.truncate()
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    return None
