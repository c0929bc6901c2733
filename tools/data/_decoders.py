"""Decode files in processes: a decoder that crashes ends only its own."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.util import get_temp_dir

CRASH = 'crash: the decoder ended its process, or memory ran out'


class DecoderPool:
    """``check_sample`` in processes.

    Args:
        workers (int): Files that are decoded together.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        # no plain fork: threads run here. The server's socket is a path of
        # 108 bytes at most.
        kind = 'forkserver' if len(get_temp_dir()) < 80 else 'spawn'
        self.context = multiprocessing.get_context(kind)
        self.context.set_forkserver_preload(['cgnl_mm.datasets.unreadable'])
        self.pool = self.single = None

    def __enter__(self) -> 'DecoderPool':
        return self

    def __exit__(self, *_) -> None:
        for pool in (self.pool, self.single):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def reasons(self, needs: dict[str, dict]) -> Iterator[tuple]:
        """Yield (path, why it cannot be read, or None), in order.

        A crash takes the files under way with it. Whatever is left of this
        call is then decoded alone: give it some hundred files at most.

        Args:
            needs (dict[str, dict]): What to look for, by path.
        """
        from cgnl_mm.datasets.unreadable import check_sample

        if self.pool is None:
            self.pool = self._start(self.workers)
        futures = {}
        for path, need in needs.items():
            try:
                futures[path] = self.pool.submit(check_sample, path, need)
            except BrokenProcessPool:
                break  # nobody takes the rest
        for path, need in needs.items():
            future = futures.get(path)
            try:
                reason = future.result() if future else self._alone(path, need)
            except BrokenProcessPool:
                self.pool = None
                reason = self._alone(path, need)
            yield path, reason

    def _alone(self, path: str, need: dict) -> str | None:
        from cgnl_mm.datasets.unreadable import check_sample

        for _ in range(2):  # the process may have ended for another reason
            if self.single is None:
                self.single = self._start(1)
            try:
                return self.single.submit(check_sample, path, need).result()
            except BrokenProcessPool:
                self.single = None
        return CRASH

    def _start(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers,
            self.context,
            # Ctrl-C is the parent's
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
