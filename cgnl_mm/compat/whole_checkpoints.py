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
should the job be killed in between; what lies in another run's folder stays;
resuming takes the newest whole checkpoint and names those that it passes over.
A full disk is one message.

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

from ..errors import DiskFullError
from .after_import import after_import
from .workaround import Workaround

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# of the message hub: names of files that the checkpoint makes outdated
OUTDATED = 'outdated_ckpts'
# of a runner: path of the checkpoint from which it goes on
RESUMED_FROM = '_resumed_from'


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
    """A file backend that notes what to remove.

    It sees no file outside of the folder: what another run has saved is not
    to be removed.
    """

    def __init__(self, backend, folder: str, hub, key: str) -> None:
        self.backend, self.folder, self.noted = backend, folder, []
        self.hub, self.key = hub, key

    def __getattr__(self, name: str):
        return getattr(self.backend, name)

    def isfile(self, path: str) -> bool:
        return _lies_in(path, self.folder) and self.backend.isfile(path)

    def isdir(self, path: str) -> bool:
        return _lies_in(path, self.folder) and self.backend.isdir(path)

    def remove(self, path: str) -> None:
        self._note(self.backend.remove, path)

    def rmtree(self, path: str) -> None:
        self._note(self.backend.rmtree, path)

    def _note(self, remove, path: str) -> None:
        self.noted.append((remove, path))
        names = {*self.hub.runtime_info.get(self.key, ()), osp.basename(path)}
        self.hub.update_info(self.key, sorted(names))


def _lies_in(path: str, folder: str) -> bool:
    if '://' in path:
        return osp.dirname(path) == folder.rstrip('/')
    return osp.realpath(osp.dirname(path)) == osp.realpath(folder)


def _key(hook, runner) -> str:
    """Of the message hub; each CheckpointHook of a runner has its own."""
    number = _checkpoint_hooks(runner).index(hook)
    return f'{OUTDATED}_{number}' if number else OUTDATED


def _checkpoint_hooks(runner) -> list:
    from mmengine.hooks import CheckpointHook

    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def _removing_last(save):
    """Wrap a method of CheckpointHook."""

    @functools.wraps(save)
    def wrapper(self, runner, *args, **kwargs):
        backend, hub = self.file_backend, runner.message_hub
        key = _key(self, runner)
        self.file_backend = later = _LaterRemoval(
            backend, self.out_dir, hub, key
        )
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
            hub.update_info(key, [])

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
        hub, key = runner.message_hub, _key(self, runner)
        loaded = getattr(runner, RESUMED_FROM, None)
        own = loaded is not None and _is_own(loaded, runner)
        if loaded is not None and not own:
            # what has one of these names here is another run's
            for name in {key, 'keep_ckpt_ids'} & set(hub.runtime_info):
                hub.update_info(name, [])
        before_train(self, runner)
        backend = self.file_backend

        def now(path: Optional[str]) -> Optional[str]:
            # the folder may be a copy of the one where it was saved
            if not own or not path:
                return path
            here = backend.join_path(self.out_dir, osp.basename(path))
            return here if backend.exists(here) else path

        last = self.last_ckpt or now(hub.runtime_info.get('last_ckpt'))
        if last and backend.exists(last):
            self.last_ckpt = last
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = now(self.best_ckpt_path)
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[name] = now(path)
        # the job was killed after it saved, before it removed them
        for name in hub.runtime_info.get(key, ()):
            path = backend.join_path(self.out_dir, name)
            if (
                is_main_process()
                and path not in _current(self)
                and _is_older(path, loaded)
            ):
                (backend.rmtree if osp.isdir(path) else backend.remove)(path)
        if hub.runtime_info.get(key):
            hub.update_info(key, [])

    return wrapper


def _is_own(path: str, runner) -> bool:
    """Whether a checkpoint lies where a run saves its own."""
    folders = {runner.work_dir}
    name = osp.basename(runner.work_dir.rstrip(osp.sep))
    for hook in _checkpoint_hooks(runner):
        if hook.out_dir is not None:  # as given, or with the run's name
            folders |= {hook.out_dir, osp.join(hook.out_dir, name)}
    return any(_lies_in(path, folder) for folder in folders)


def _is_older(path: str, than: str) -> bool:
    if not osp.exists(path) or not osp.exists(than):  # or remote
        return False
    return not osp.samefile(path, than) and (
        osp.getmtime(path) <= osp.getmtime(than)
    )


def _noting(resume):
    """Wrap Runner.resume."""

    @functools.wraps(resume)
    def wrapper(self, filename, *args, **kwargs):
        setattr(self, RESUMED_FROM, str(filename))
        return resume(self, filename, *args, **kwargs)

    return wrapper


def _mend_backend(module: ModuleType) -> None:
    module.LocalBackend.put = _put


def _mend_hook(module: ModuleType) -> None:
    hook = module.CheckpointHook
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(hook, name, _removing_last(getattr(hook, name)))
    hook.before_train = _taking_up(hook.before_train)


def _mend_search(module: ModuleType) -> None:
    from ..training.resume import find_latest

    module.find_latest_checkpoint = find_latest


def _mend_runner(module: ModuleType) -> None:
    for name in ('Runner', 'FlexibleRunner'):
        runner = vars(module).get(name)
        # each in its own module; others import it
        if runner is not None and runner.__module__ == module.__name__:
            runner.resume = _noting(runner.resume)


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
    for name in ('mmengine.runner.runner', 'mmengine.runner._flexible_runner'):
        after_import(name, _mend_runner)


WORKAROUND = Workaround(
    name='whole_checkpoints',
    symptom='a job killed while it saves loses its checkpoints',
    versions='mmengine <= 0.10.7',
    upstream='not reported',
    not_needed=not_needed,
    apply=apply,
)
