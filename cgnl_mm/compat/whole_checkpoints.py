"""Checkpoints that survive a killed job and a full disk.

Symptom: a job that is killed while it saves leaves half a file under the
checkpoint's name, and with ``max_keep_ckpts=1`` nothing else: the previous
checkpoint is deleted before the next is written. A full disk does the same.
``--resume`` then ends in ``PytorchStreamReader failed reading zip archive``,
or starts anew. In a folder that was copied, it deletes the original's best.

Versions: mmengine <= 0.10.7. LocalBackend.put writes in place, CheckpointHook
removes first, find_latest_checkpoint believes what last_checkpoint says; a
resumed CheckpointHook forgets its last checkpoint, so that a new best score
does not get into it.

Upstream: not reported.

Cure: files are written under another name, flushed to the disk and renamed;
what is outdated goes when the new one is there, and the new one knows of it,
should the job be killed in between; resuming takes the newest whole checkpoint
and names those that it passes over. A full disk is one message.

Delete when: mmengine does the four.
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
# of the message hub: names of files that the checkpoint makes outdated
OUTDATED = 'outdated_ckpts'


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

    def __init__(self, backend, hub) -> None:
        self.backend, self.hub, self.noted = backend, hub, []

    def __getattr__(self, name: str):
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self._note(self.backend.remove, path)

    def rmtree(self, path: str) -> None:
        self._note(self.backend.rmtree, path)

    def _note(self, remove, path: str) -> None:
        self.noted.append((remove, path))
        names = {*self.hub.runtime_info.get(OUTDATED, ()), osp.basename(path)}
        self.hub.update_info(OUTDATED, sorted(names))


def _removing_last(save):
    """Wrap a method of CheckpointHook."""

    @functools.wraps(save)
    def wrapper(self, runner, *args, **kwargs):
        backend, hub = self.file_backend, runner.message_hub
        self.file_backend = later = _LaterRemoval(backend, hub)
        try:
            save(self, runner, *args, **kwargs)
        finally:
            self.file_backend = backend
        current = _current(self)
        for remove, path in later.noted:
            if path not in current:
                remove(path)
        # of a method within the other, the outer one's turn comes later
        if not isinstance(backend, _LaterRemoval) and later.noted:
            hub.update_info(OUTDATED, [])

    return wrapper


def _current(hook) -> set:
    # an evaluation that is repeated saves under the same name
    return {
        hook.last_ckpt,
        getattr(hook, 'best_ckpt_path', None),
        *getattr(hook, 'best_ckpt_path_dict', {}).values(),
    }


def _taking_up(before_train):
    """Wrap CheckpointHook.before_train: what a resumed run has to know."""
    from mmengine.dist import is_main_process

    @functools.wraps(before_train)
    def wrapper(self, runner):
        before_train(self, runner)
        hub, backend = runner.message_hub, self.file_backend

        def here(path: Optional[str]) -> Optional[str]:
            # the folder may be a copy of the one where it was saved
            return path and backend.join_path(self.out_dir, osp.basename(path))

        self.last_ckpt = self.last_ckpt or here(
            hub.runtime_info.get('last_ckpt')
        )
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = here(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = here(path)
        # the job was killed after it saved, before it removed them
        outdated = hub.runtime_info.get(OUTDATED)
        if not outdated:
            return
        for path in {here(name) for name in outdated} - _current(self):
            if is_main_process() and backend.isfile(path):
                backend.remove(path)
            elif is_main_process() and backend.isdir(path):
                backend.rmtree(path)
        hub.update_info(OUTDATED, [])

    return wrapper


def _mend_backend(module: ModuleType) -> None:
    module.LocalBackend.put = _put


def _mend_hook(module: ModuleType) -> None:
    hook = module.CheckpointHook
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(hook, name, _removing_last(getattr(hook, name)))
    hook.before_train = _taking_up(hook.before_train)


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
