"""A hook that ends its process as a cluster, a full disk or a bug would."""

import os
import resource
import signal
import time
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FaultyHook(Hook):
    """Does one thing at one moment, unless the file ``done`` is there.

    Args:
        what (str): 'SIGKILL' or 'SIGTERM' to the process, 'nan' into the
            weights, 'raise' an error, 'wait' for the file ``told``.
        when (str): 'iteration', 'validation', or 'saving': when the data of
            a checkpoint is written, before it gets its name.
        at (int): The iteration, or which of the savings. Defaults to 1.
        rank (int): In which process. Defaults to 0.
        once (bool): Not in a run that goes on. Defaults to True.
    """

    priority = 'VERY_HIGH'

    def __init__(self, what, when, at=1, rank=0, once=True):
        self.what, self.when, self.at, self.rank = what, when, at, rank
        self.once = once

    def before_train(self, runner):
        self.savings = 0
        self.done = Path(runner.work_dir) / f'done{get_rank()}'
        if self.when == 'saving' and not self.done.exists():
            fsync = os.fsync

            def counted(descriptor):
                self.savings += 1
                self.act('saving', self.savings, runner)
                fsync(descriptor)

            os.fsync = counted

    def act(self, when, at, runner):
        if (when, at, get_rank()) != (self.when, self.at, self.rank):
            return
        if self.once and self.done.exists():
            return
        self.done.write_text(str(os.getpid()))
        if self.what == 'raise':
            raise RuntimeError('a fault of this process')
        if self.what == 'wait':
            while not self.done.with_name('told').exists():
                time.sleep(0.05)
            return
        if self.what == 'nan':
            (block,) = (
                m for m in runner.model.modules() if hasattr(m, 'theta')
            )
            with torch.no_grad():
                block.theta.weight[0] = float('inf')
            return
        os.kill(os.getpid(), getattr(signal, self.what))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.act('iteration', runner.iter + 1, runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.act('validation', runner.iter, runner)


@HOOKS.register_module()
class FullDiskHook(Hook):
    """No file of this process may grow beyond ``size`` bytes from an epoch on.

    Args:
        size (int): The limit.
        epoch (int): From the end of this epoch on.
    """

    priority = 'VERY_HIGH'

    def __init__(self, size, epoch):
        self.size, self.epoch = size, epoch

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, -1))


@HOOKS.register_module()
class CurveHook(Hook):
    """Write the loss of each iteration, in hexadecimal, to ``curve.txt``."""

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):  # fmt: skip
        with open(f'{runner.work_dir}/curve{get_rank()}.txt', 'a') as file:
            loss = float(outputs['loss'])
            file.write(f'{runner.iter + 1} {batch_idx} {loss.hex()}\n')


@HOOKS.register_module()
class ProgressHook(Hook):
    """Give each evaluation a metric that is better than the last one's."""

    priority = 'VERY_HIGH'

    def after_val_epoch(self, runner, metrics=None):
        metrics['progress'] = runner.iter
