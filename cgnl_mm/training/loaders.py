"""The data loaders of a training, from inside a hook."""

import os
import signal
import threading
from typing import Callable, Optional, Sequence

from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..errors import SetupError


def is_iter_based(runner: Runner) -> bool:
    """Whether the loop takes the data as one endless epoch."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def require_not_started(runner: Runner) -> None:
    """Workers that run already would not see what a hook changes.

    Raises:
        SetupError: If they run.
    """
    loop = runner.train_loop
    if is_iter_based(runner) and loop.dataloader_iterator._iterator:
        raise SetupError(
            'the workers of this iteration-based training run already, so '
            'that no hook can change the data. CGNL_MM_COMPAT has to leave '
            "the workaround 'late_workers' on"
        )


def shelter_workers(runner: Runner, signals: Sequence[int]) -> None:
    """Let workers that start from now on outlive signals.

    A signal to a whole process group would end them before their process has
    taken its last batch.

    Args:
        runner (Runner): Its loops for training and validation are built.
        signals (Sequence[int]): Numbers of signals.
    """
    if not hasattr(signal, 'sigwaitinfo'):  # Linux has it, macOS not
        return
    for loop in (runner.train_loop, runner.val_loop):
        loader = getattr(loop, 'dataloader', None)
        if isinstance(loader, DataLoader):
            loader.worker_init_fn = _Shelter(signals, loader.worker_init_fn)


class _Shelter:
    """A worker_init_fn. A class, since workers may be spawned: pickled."""

    def __init__(
        self, signals: Sequence[int], inner: Optional[Callable[[int], None]]
    ) -> None:
        self.signals, self.inner = tuple(signals), inner

    def __call__(self, worker_id: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        threading.Thread(target=self._obey_parent, daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)

    def _obey_parent(self) -> None:
        # not SIG_IGN: multiprocessing ends its workers by SIGTERM at exit,
        # and waits for them
        while signal.sigwaitinfo(self.signals).si_pid != os.getppid():
            pass
        os._exit(0)
