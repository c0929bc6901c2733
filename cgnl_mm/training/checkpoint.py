"""Checkpoints that survive a killed job and a full disk."""

import errno
import os
import os.path as osp
import shutil
import stat
from logging import WARNING

from mmengine import dist
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import ConfigError, DiskFullError
from .numerics import may_save
from .resume import NOTE, choose_checkpoint, resumed_from
from .start import require_start

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# of the file that is not complete yet
PART = '.part'
# key of a checkpoint: names of the files that it makes outdated
OUTDATED = 'outdated_ckpts'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Save checkpoints that are whole or not there.

    ::

        default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook'))

    MMEngine's hook writes in place and removes the previous checkpoint
    first, so a job that is killed while it saves may leave nothing that can
    be resumed from. With this hook

    - a file has its name when it is complete and on the disk;
    - what is outdated goes when the new file and ``last_checkpoint`` are
      there, or when the run goes on after a kill in between;
    - a full disk ends the run in one line, and earlier files stay;
    - ``resume=True`` takes :func:`~.resume.find_latest`'s checkpoint;
    - a run that goes on from another run's folder removes nothing there, and
      nothing that has the same names in its own;
    - what a killed job left half written goes when the run goes on;
    - nothing is trained in a folder where another training runs, or by
      processes that begin at different checkpoints;
    - nothing is saved while :class:`NumericsHook` finds weights or losses
      that are not finite.

    :func:`save_whole` writes the files. Remote storage is left as it is. The
    arguments are those of MMEngine's CheckpointHook.

    Raises:
        ConfigError: In training, if there is another checkpoint hook.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._outdated = []  # paths that the next checkpoint supersedes
        self._left = []  # names that the loaded checkpoint had superseded

    def before_run(self, runner: Runner) -> None:
        choose_checkpoint(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        names = [osp.basename(path) for path in self._outdated]
        checkpoint[OUTDATED] = names

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._left = checkpoint.get(OUTDATED, [])

    def before_train(self, runner: Runner) -> None:
        hooks = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
        if len(hooks) > 1:
            raise ConfigError(
                f'AtomicCheckpointHook: this config has {len(hooks)} hooks '
                'that save checkpoints, and a resumed run cannot tell their '
                'files apart: leave one'
            )
        require_start(runner)
        hub = runner.message_hub
        kept = hub.runtime_info.get('keep_ckpt_ids', [])
        # what has these numbers here may be another run's
        hub.update_info('keep_ckpt_ids', [])
        loaded = resumed_from(runner)
        for key in [k for k in hub.runtime_info if k.startswith('best_ckpt')]:
            # a copied run names the original's file
            name = osp.basename(hub.get_info(key))
            here = osp.join(osp.dirname(loaded or ''), name)
            if osp.isfile(here):
                hub.update_info(key, here)
        super().before_train(runner)
        if dist.is_main_process():
            self._remove_halves(runner)
        self.file_backend = _LaterRemoval(
            self.file_backend, folder=self.out_dir, outdated=self._outdated
        )
        folders = self.out_dir, runner.work_dir
        if loaded and any(lies_in(loaded, folder) for folder in folders):
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids.extend(kept)
            self.last_ckpt = hub.runtime_info.get('last_ckpt')
            if dist.is_main_process():
                self._remove_left(loaded)

    def _remove_halves(self, runner: Runner) -> None:
        ends = tuple(x + PART for x in ('.pth', self.filename_tmpl[-4:]))
        for folder in {self.out_dir, runner.work_dir}:
            for name in os.listdir(folder) if osp.isdir(folder) else ():
                if name.endswith(ends):
                    remove(osp.join(folder, name))

    def _remove_left(self, loaded: str) -> None:
        """Remove what the job was killed before it removed."""
        paths = [osp.join(self.out_dir, name) for name in self._left]
        self._outdated += [p for p in paths if is_older(p, loaded)]
        self._remove_outdated()

    def _save_checkpoint(self, runner: Runner) -> None:
        if may_save(runner):
            super()._save_checkpoint(_SavesWhole(runner))
            self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if may_save(runner):
            super()._save_best_checkpoint(_SavesWhole(runner), metrics)
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        # an evaluation that is repeated saves under the same name
        current = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        backend = self.file_backend.inner
        for path in [p for p in self._outdated if p not in current]:
            is_folder = backend.isdir(path)
            (backend.rmtree if is_folder else backend.remove)(path)
        self._outdated.clear()


class _Around:
    """An object with other methods in the place of some."""

    def __init__(self, inner, **attributes) -> None:
        self.inner = inner
        vars(self).update(attributes)

    def __getattr__(self, name: str):
        return getattr(self.inner, name)


class _SavesWhole(_Around):
    """Stand in for a runner, and save its checkpoints by save_whole.

    MMEngine's hook decides when it saves and which names there are, and
    calls ``runner.save_checkpoint``. Only that call has to change.
    """

    def save_checkpoint(self, *args, **kwargs) -> None:
        save_whole(self.inner, *args, **kwargs)


class _LaterRemoval(_Around):
    """Stand in for a file backend, and put off what is to be removed.

    MMEngine's hook removes a checkpoint before it saves the next one. Here
    it lists the path in ``outdated``, and AtomicCheckpointHook removes the
    file after the save. A file outside of ``folder``, such as another run's,
    is not found, and so never removed.
    """

    def isfile(self, path: str) -> bool:
        return lies_in(path, self.folder) and self.inner.isfile(path)

    def isdir(self, path: str) -> bool:
        return lies_in(path, self.folder) and self.inner.isdir(path)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove


def save_whole(
    runner: Runner, out_dir: str, filename: str, *args, **kwargs
) -> None:
    """Save a checkpoint that gets its name when it is on the disk.

    Every process has to call this.

    Args:
        runner (Runner): The runner, or a FlexibleRunner.
        out_dir (str): The folder. A remote one is left to its storage.
        filename (str): The name in the folder.
        *args: Further arguments of ``runner.save_checkpoint``.
        **kwargs: Further arguments of ``runner.save_checkpoint``.

    Raises:
        DiskFullError: What was there before is untouched.
    """
    if '://' in out_dir:
        runner.save_checkpoint(out_dir, filename, *args, **kwargs)
        return
    path = osp.join(out_dir, filename)
    part = path + PART
    # a link is not followed, and shards of a killed job are not mixed in
    if dist.is_main_process() and osp.lexists(part):
        remove(part)
    runner.call_hook('gather_gradients')
    dist.barrier()
    try:
        runner.save_checkpoint(out_dir, filename + PART, *args, **kwargs)
        dist.barrier()  # each process may have written a shard
        if dist.is_main_process():
            _rename(part, path)
            _make_way(osp.join(runner.work_dir, NOTE))  # it is written next
    except BaseException as error:
        if dist.is_main_process() and osp.isfile(part):
            os.remove(part)
            if isinstance(error, OSError) and error.errno in FULL:
                raise DiskFullError(
                    error.errno,
                    f'{path} could not be written: {error.strerror}. Earlier '
                    'files are as they were: make room and go on with '
                    '--resume',
                ) from error
        raise


def _rename(part: str, path: str) -> None:
    shards = os.listdir(part) if osp.isdir(part) else ['']
    for name in shards:
        with open(osp.join(part, name) if name else part, 'rb') as file:
            os.fsync(file.fileno())
    if osp.isdir(path) and osp.isdir(part):
        remove(path)  # of shards
    _make_way(path)
    os.replace(part, path)


def _make_way(path: str) -> None:
    """Free a file's name from links, a pipe or somebody's folder."""
    if osp.isdir(path) and not osp.islink(path):
        aside = f'{path}.{os.getpid()}'
        os.rename(path, aside)
        print_log(f'{path} was a folder: now {aside}', 'current', WARNING)
    elif osp.lexists(path):
        status = os.lstat(path)
        # a copy by `cp -al` shares its files with the original
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.remove(path)


def remove(path: str) -> None:
    """Remove a local file, a folder with its files, or a link alone."""
    is_folder = osp.isdir(path) and not osp.islink(path)
    (shutil.rmtree if is_folder else os.remove)(path)


def lies_in(path: str, folder: str) -> bool:
    """Return whether a path is that of a file right in a folder."""
    return osp.realpath(osp.dirname(path)) == osp.realpath(folder)


def is_older(path: str, than: str) -> bool:
    """Return whether two local files exist, the first not the newer one."""
    exist = osp.exists(path) and osp.exists(than)  # a remote one does not
    return exist and osp.getmtime(path) <= osp.getmtime(than)
