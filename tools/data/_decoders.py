"""Decode files in processes: a decoder that crashes ends only its own."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

CRASH = 'crash: the decoder ended its process'


class DecoderPool:
    """``check_sample`` in processes.

    Args:
        workers (int): Files that are decoded together.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        # no plain fork: threads run here
        self.context = multiprocessing.get_context('forkserver')
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
            self.pool = ProcessPoolExecutor(self.workers, self.context)
        futures = {}
        for path, need in needs.items():
            try:
                futures[path] = self.pool.submit(check_sample, path, need)
            except BrokenProcessPool:
                break  # nobody takes the rest
        for path, need in needs.items():
            try:
                yield path, futures[path].result()
            except (BrokenProcessPool, KeyError):
                self.pool = None
                yield path, self._alone(check_sample, path, need)

    def _alone(self, check, path: str, need: dict) -> str | None:
        if self.single is None:
            self.single = ProcessPoolExecutor(1, self.context)
        try:
            return self.single.submit(check, path, need).result()
        except BrokenProcessPool:
            self.single = None
            return CRASH
