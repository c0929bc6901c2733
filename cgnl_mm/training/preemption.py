"""Save a checkpoint before a run that is told to end."""

import os
import os.path as osp
import signal
import sys
import threading
import time

import torch
from mmengine import dist
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .checkpoint import is_older, lies_in, remove, save_whole
from .loaders import shelter_workers
from .numerics import may_save
from .resume import NOTE, PREEMPTED, choose_checkpoint, resumed_from
from .start import require_start

STATUS = 128 + signal.SIGTERM
ONCE = 5.0  # seconds in which a signal that comes again is the same one


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and exit when the cluster wants its nodes back.

    ::

        custom_hooks = [dict(type='PreemptionHook')]

    On a SIGTERM the iteration is finished, ``preempted.pth`` is written to
    the work folder, and every process exits with 143. ``--resume`` goes on
    from that file, at the next batch with :class:`ExactResumeHook`, else at
    the first batch of the epoch. The file goes when there is a later
    checkpoint. Another signal, 5 s later or more, ends the process at once. A
    signal within 5 s counts as the same one, which a launcher of the same
    process group passes on.

    Workers of the data loaders outlive the signal, so that one to the whole
    process group is fine (on Linux; elsewhere signal the main process).

    One process that got the signal is enough: they agree after each training
    iteration, and at the end of an evaluation, which a single process leaves
    at once. Slurm's ``--signal=TERM@120`` gives the time that an iteration
    and the saving need; ``torchrun`` kills its processes 30 s after a
    SIGTERM.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received_at = 0.0  # 0: never
        self._previous = None  # until this hook has taken SIGTERM
        self._has_older = False  # perhaps a file of the run before

    def before_run(self, runner: Runner) -> None:
        choose_checkpoint(runner)

    def before_train(self, runner: Runner) -> None:
        require_start(runner)
        loaded = resumed_from(runner)
        is_own = loaded and lies_in(loaded, runner.work_dir)
        self._has_older = is_own and dist.is_main_process()
        # Python lets no other thread handle signals.
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGTERM, self._receive)
            self._previous = before or signal.SIG_DFL
        else:
            runner.logger.warning(
                'PreemptionHook: outside of the main thread, SIGTERM ends '
                'this training without a checkpoint'
            )
        shelter_workers(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._drop_older(runner)

    def after_train(self, runner: Runner) -> None:
        self._drop_older(runner)
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _drop_older(self, runner: Runner) -> None:
        """Remove preempted.pth if this run has a later checkpoint."""
        later = runner.message_hub.runtime_info.get('last_ckpt', '')
        path = osp.join(runner.work_dir, PREEMPTED)
        if self._has_older and is_older(path, later):
            remove(path)
            self._has_older = False

    def _receive(self, number: int, frame) -> None:
        # nothing else: a handler may interrupt anything
        now = time.monotonic()
        if not self._received_at:
            self._received_at = now
        elif now - self._received_at > ONCE:
            signal.signal(number, self._previous)
            os.kill(os.getpid(), number)

    def after_train_iter(self, runner: Runner, **kwargs) -> None:
        if self._has_older and self.every_n_train_iters(runner, 50):
            self._drop_older(runner)
        self._end_if_told(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, **kwargs) -> None:
        # processes may have different numbers of these
        if self._received_at and dist.get_world_size() == 1:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it is in the model's place
                    hook._swap_ema_parameters()
            self._end_if_told(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        if runner._train_loop is not None:  # not by `runner.val()`
            self._end_if_told(runner, runner.iter)

    def _end_if_told(self, runner: Runner, iterations: int) -> None:
        received = torch.tensor(int(self._received_at > 0))
        dist.all_reduce(received, 'max')
        if not received:
            return
        runner.logger.warning(f'SIGTERM after iteration {iterations}')
        said = 'nothing is saved, --resume goes on from the last checkpoint'
        if may_save(runner):
            path = self._save(runner, iterations)
            said = f'{path} is written; --resume goes on from there'
        runner.logger.warning(f'{said}. Exit status {STATUS}')
        runner.visualizer.close()
        sys.exit(STATUS)

    def _save(self, runner: Runner, iterations: int) -> str:
        path = osp.join(runner.work_dir, PREEMPTED)
        meta = dict(epoch=runner.epoch, iter=iterations)
        save_whole(
            runner, runner.work_dir, PREEMPTED, meta=meta, by_epoch=False
        )
        if dist.is_main_process():
            with open(osp.join(runner.work_dir, NOTE), 'w') as file:
                file.write(path)
        dist.barrier()
        return path
