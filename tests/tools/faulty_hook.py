"""A hook that ends its process as a cluster, a full disk or a bug would."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

WRITES = os.O_WRONLY | os.O_RDWR
CHECKPOINTS = ('.pth', '.part', 'last_checkpoint')
CUT = 10_000  # bytes of a file that a process dies in the midst of


def limit_files(size):
    """Let no file of this process grow beyond a number of bytes."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


@HOOKS.register_module()
class FaultyHook(Hook):
    """Does one thing at one moment, and notes its process in ``done{rank}``.

    It does nothing where that file is: in a run that goes on.

    Args:
        what (str): 'SIGKILL' or another signal to the process, 'nan' into
            the weights, 'raise' an error, 'wait' for the file ``told``,
            'large' values in group 3 of a block, which leave float16.
        when (str): 'iteration', 'validation', or 'operation': right before
            something is done with a checkpoint's file. Each is printed. With
            SIGXFSZ in the midst of writing the file.
        at (int): The iteration, or which of the operations. Defaults to 1.
        rank (int): In which process. Defaults to 0.
    """

    priority = 'VERY_HIGH'

    def __init__(self, what, when, at=1, rank=0):
        self.what, self.when, self.at, self.rank = what, when, at, rank

    def before_train(self, runner):
        self.done = Path(runner.work_dir) / f'done{get_rank()}'
        if self.when == 'operation' and not self.done.exists():
            self.operations, self.runner = 0, runner
            sys.addaudithook(self.watch)

    def watch(self, event, args):
        if event not in ('open', 'os.rename', 'os.remove'):
            return
        path = str(args[0])
        if not path.endswith(CHECKPOINTS) or (
            event == 'open' and not args[2] & WRITES
        ):
            return
        self.operations += 1
        name = Path(path).name
        print(f'operation {self.operations}: {event} {name}', flush=True)
        self.act('operation', self.operations, self.runner)

    def act(self, when, at, runner):
        if (when, at, get_rank()) != (self.when, self.at, self.rank):
            return
        if self.done.exists():
            return
        self.done.write_text(str(os.getpid()))
        if self.what == 'raise':
            raise RuntimeError('a fault of this process')
        if self.what == 'wait':
            while not self.done.with_name('told').exists():
                time.sleep(0.05)
        elif self.what in ('nan', 'large'):
            modules = runner.model.modules()
            (block,) = (m for m in modules if hasattr(m, 'theta'))
            if self.what == 'nan':
                block.theta.weight.data[0] = float('inf')
            else:
                block.g.weight.data.chunk(block.groups)[3].mul_(1e6)
        elif self.what == 'SIGXFSZ':  # sent when a file outgrows this
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            limit_files(CUT)
        else:
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
            limit_files(self.size)


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
