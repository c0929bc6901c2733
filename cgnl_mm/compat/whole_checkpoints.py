"""Checkpoints that survive a killed job and a full disk.

Symptom: a job that is killed while it saves leaves half a file under the
checkpoint's name, and with ``max_keep_ckpts=1`` nothing else: the previous
checkpoint is deleted before the next is written. A full disk does the same.
``--resume`` then ends in ``PytorchStreamReader failed reading zip archive``,
or starts anew.

Versions: mmengine <= 0.10.7. LocalBackend.put writes in place, CheckpointHook
removes first, find_latest_checkpoint believes what last_checkpoint says.

Upstream: not reported.

Cure: files are written under another name, flushed to the disk and renamed;
what is outdated goes when the new one is there; resuming takes the newest
whole checkpoint and names those that it passes over. A full disk is one
message.

Delete when: mmengine does the three.
"""

import contextlib
import errno
import functools
import os
import os.path as osp
import shutil
from types import ModuleType
from typing import Optional

from ..checkpoints import find_latest
from ..errors import DiskFullError
from .after_import import after_import
from .workaround import Workaround

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def not_needed() -> Optional[str]:
    return None


def _put(self, obj: bytes, filepath) -> None:
    """In place of LocalBackend.put.

    Raises:
        DiskFullError: What was there before is untouched.
    """
    path = osp.realpath(filepath)
    os.makedirs(osp.dirname(path), exist_ok=True)
    in_place = osp.exists(path) and not osp.isfile(path)  # /dev/stdout
    # not numbered: what a killed job left is overwritten by the next one
    part = path if in_place else path + '.part'
    try:
        with open(part, 'wb') as file:
            file.write(obj)
            if in_place:
                return
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        if not in_place:
            with contextlib.suppress(OSError):
                os.remove(part)
        if isinstance(error, OSError) and error.errno in FULL:
            free = shutil.disk_usage(osp.dirname(path)).free
            raise DiskFullError(
                error.errno,
                f'{filepath} could not be written: {error.strerror} '
                f'({len(obj) / 1e6:.0f} MB needed, {free / 1e6:.0f} MB '
                'free). Earlier files are as they were: make room and go on '
                'with --resume',
            ) from error
        raise


class _LaterRemoval:
    """A file backend that notes what to remove."""

    def __init__(self, backend) -> None:
        self.backend, self.noted = backend, []

    def __getattr__(self, name: str):
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.noted.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.noted.append((self.backend.rmtree, path))


def _removing_last(save):
    """Wrap a method of CheckpointHook."""

    @functools.wraps(save)
    def wrapper(self, *args, **kwargs):
        backend = self.file_backend
        self.file_backend = later = _LaterRemoval(backend)
        try:
            save(self, *args, **kwargs)
        finally:
            self.file_backend = backend
        # an evaluation that is repeated saves under the same name
        current = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for remove, path in later.noted:
            if path not in current:
                remove(path)

    return wrapper


def _mend_backend(module: ModuleType) -> None:
    module.LocalBackend.put = _put


def _mend_hook(module: ModuleType) -> None:
    hook = module.CheckpointHook
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(hook, name, _removing_last(getattr(hook, name)))


def _mend_search(module: ModuleType) -> None:
    module.find_latest_checkpoint = find_latest


def apply() -> None:
    after_import('mmengine.fileio.backends.local_backend', _mend_backend)
    after_import('mmengine.hooks.checkpoint_hook', _mend_hook)
    for name in (
        'mmengine.runner',
        'mmengine.runner.checkpoint',
        'mmengine.runner.runner',
        'mmengine.runner._flexible_runner',
        'mmengine._strategy.base',
    ):
        after_import(name, _mend_search)


WORKAROUND = Workaround(
    name='whole_checkpoints',
    symptom='a job killed while it saves loses its checkpoints',
    versions='mmengine <= 0.10.7',
    upstream='not reported',
    not_needed=not_needed,
    apply=apply,
)
