"""Change the data loaders of a training from inside a hook."""

import os
import signal
import threading
from typing import Callable, Optional

from mmengine.runner import IterBasedTrainLoop, Runner, loops
from torch.utils.data import DataLoader


def is_iter_based(runner: Runner) -> bool:
    """Return whether the loop takes the data as one endless epoch."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


class LateIterator(loops._InfiniteDataloaderIterator):
    """Start the workers of an iteration-based loop with its first batch.

    MMEngine's iterator starts them when the loop is built, which is before
    any hook can change the data or the sampler.

    Args:
        dataloader (DataLoader): The loop's data loader.

    Attributes:
        skipped (int): Calls to answer with None, by which MMEngine's loop
            skips what a resumed run was trained on.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        self._dataloader, self._iterator, self._epoch = dataloader, None, 0
        self.skipped = 0
        # the next runner's loop is MMEngine's again
        loops._InfiniteDataloaderIterator = LateIterator.__base__

    def __next__(self):
        if self.skipped:
            self.skipped -= 1
            return None
        if self._iterator is None:
            self._iterator = iter(self._dataloader)
        return super().__next__()


def start_workers_late() -> None:
    """Let the loop that is built next have a LateIterator.

    Hooks that change the training data call this when they are built, since
    no hook is called before the loop is built.
    """
    loops._InfiniteDataloaderIterator = LateIterator


def shelter_workers(runner: Runner) -> None:
    """Let workers that start from now on outlive a SIGTERM.

    One to a whole process group would otherwise end the workers before their
    process has taken its last batch.

    Args:
        runner (Runner): Its loops for training and validation are built.
    """
    if not hasattr(signal, 'sigwaitinfo'):  # Linux has it, macOS not
        return
    for loop in (runner.train_loop, runner.val_loop):
        loader = getattr(loop, 'dataloader', None)
        if isinstance(loader, DataLoader):
            loader.worker_init_fn = _Shelter(loader.worker_init_fn)


class _Shelter:
    """A worker_init_fn. A class, since workers may be spawned: pickled."""

    def __init__(self, inner: Optional[Callable[[int], None]]) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_obey_parent, daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def _obey_parent() -> None:
    # not SIG_IGN: multiprocessing ends its workers by SIGTERM at exit, and
    # waits for them
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
