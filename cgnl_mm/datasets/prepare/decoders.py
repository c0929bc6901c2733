"""Decode files in processes: a decoder that crashes ends only its own."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
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
        if kind == 'forkserver':
            _start_server(['cgnl_mm.datasets.unreadable'])
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
            needs (dict[str, dict]): Further arguments of ``check_sample``,
                by path.

        Raises:
            SetupError: If the processes lack file descriptors or memory.
        """
        from cgnl_mm.errors import SetupError

        try:
            yield from self._reasons(needs)
        except OSError as error:  # no file descriptors, no memory
            raise SetupError(
                f'{error.strerror or error}. Fewer --workers, or a higher '
                'limit (`ulimit -n`), may help'
            ) from error

    def _reasons(self, needs: dict[str, dict]) -> Iterator[tuple]:
        futures = self._submit(needs)
        if not futures:  # the pool's processes were killed while idle
            futures = self._submit(needs)
        for path, need in needs.items():
            future = futures.get(path)
            try:
                reason = future.result() if future else self._alone(path, need)
            except BrokenProcessPool:
                self.pool = None
                reason = self._alone(path, need)
            yield path, reason

    def _submit(self, needs: dict[str, dict]) -> dict[str, Future]:
        from cgnl_mm.datasets.unreadable import check_sample

        if self.pool is None:
            self.pool = self._start(self.workers)
        futures = {}
        try:
            for path, need in needs.items():
                futures[path] = self.pool.submit(check_sample, path, **need)
        except BrokenProcessPool:  # nobody takes the rest
            self.pool = None
        return futures

    def _alone(self, path: str, need: dict) -> str | None:
        from cgnl_mm.datasets.unreadable import check_sample

        for _ in range(2):  # the process may have ended for another reason
            if self.single is None:
                self.single = self._start(1)
            try:
                return self.single.submit(check_sample, path, **need).result()
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


def _start_server(modules: list[str]) -> None:
    """Start what workers are forked from, with modules of this checkout.

    Python 3.11 does not hand it ``sys.path``: it would import a cgnl_mm that
    is installed from elsewhere.
    """
    import cgnl_mm

    root = os.path.dirname(os.path.dirname(cgnl_mm.__file__))
    before = os.environ.get('PYTHONPATH')
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (root, before)))
    try:
        forkserver.set_forkserver_preload(modules)
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ['PYTHONPATH']
        else:
            os.environ['PYTHONPATH'] = before
